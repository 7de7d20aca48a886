"""Refusals are public interface: every code, its status and its sentences, as the page for users has them."""

import http
import re
from pathlib import Path

import pytest

from policies.http.verdict import Deny, Refusal

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"


def test_the_page_lists_every_refusal_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(refusal.code, str(refusal.status), refusal.message) for refusal in Refusal]


def test_no_two_refusals_are_one() -> None:
    """A dictionary of (status, message) would make the second one an alias of the first."""
    assert len(Refusal.__members__) == len(list(Refusal))
    assert len({refusal.code for refusal in Refusal}) == len(Refusal)


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.code)
def test_a_refusal_is_a_real_status_a_stable_code_and_sentences(refusal: Refusal) -> None:
    """What happened and what to do, in words that fit a quoted header value (RFC 6750 section 3)."""
    assert http.HTTPStatus(refusal.status).value >= 400
    assert re.fullmatch(r"[a-z][a-z_]+", refusal.code)
    assert re.fullmatch(r"[A-Z'].*[.]", refusal.message)
    if refusal.status in (401, 403):
        assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", refusal.message)
    assert refusal.message.isascii()


def test_an_unreachable_store_is_never_401() -> None:
    """Clients throw their keys away on 401."""
    for refusal in Refusal:
        if refusal.code.endswith("_unavailable"):
            assert refusal.status == 503


def test_what_cannot_be_read_ends_the_connection() -> None:
    """What follows on it may not be what either side thinks."""
    assert {r.code for r in Refusal if not r.keeps_connection} >= {
        "malformed_request",
        "ambiguous_target",
        "invalid_host",
    }
    assert Refusal.RATE_LIMIT_EXCEEDED.keeps_connection


def test_a_detail_follows_the_sentences() -> None:
    assert Deny(refusal=Refusal.ROUTE_DENIED).message == Refusal.ROUTE_DENIED.message
    assert Deny(refusal=Refusal.ROUTE_DENIED, detail="So.").message == f"{Refusal.ROUTE_DENIED.message} So."
