"""Passwords: every byte of one counts, exactly as it came, and what is stored can be verified or matches nothing."""

import bcrypt
import pytest
from structlog.testing import capture_logs

from gateway.identity import passwords
from gateway.identity.passwords import hash_password, verify

PEPPER = b"a pepper of thirty-two bytes ...."
LONG = "x" * 72

SAME_TO_BCRYPT = [
    (LONG + "1", LONG + "2"),
    ("x" * 71 + "\N{GREEK SMALL LETTER ALPHA}", "x" * 71 + "\N{GREEK SMALL LETTER BETA}"),
    ("before the NUL\0 1", "before the NUL\0 2"),
]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 10)


@pytest.mark.parametrize(("one", "other"), SAME_TO_BCRYPT)
def test_what_bcrypt_would_not_tell_apart_is_apart(one: str, other: str) -> None:
    stored = hash_password(one, PEPPER)
    assert verify(one, stored, PEPPER)
    assert not verify(other, stored, PEPPER)


@pytest.mark.parametrize(
    "password",
    [
        "x" * 15,
        "x" * 72,
        "x" * 73,
        "x" * 1024,
        "\N{GRINNING FACE}" * 1024,
        " outer blanks count ",
        "half \ud800 of a surrogate pair",
        "\0" * 15,
    ],
    ids=["shortest", "72", "73", "longest", "longest in bytes", "blanks", "surrogate", "NUL"],
)
def test_any_text_of_a_fit_length_is_a_password(password: str) -> None:
    assert verify(password, hash_password(password, PEPPER), PEPPER)


@pytest.mark.parametrize(("length", "sentence"), [(0, "at least 15"), (14, "at least 15"), (1025, "at most 1024")])
def test_other_lengths_are_refused_with_a_sentence(length: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hash_password("x" * length, PEPPER)


def test_nothing_is_changed_before_it_is_compared() -> None:
    """No trimming, no case, no Unicode normal form: verified as received (ASVS 6.2.8)."""
    stored = hash_password("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait noir", PEPPER)
    for other in (
        "cafe\N{COMBINING ACUTE ACCENT} au lait noir",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait noir ",
        "CAF\N{LATIN CAPITAL LETTER E WITH ACUTE} AU LAIT NOIR",
        "",
    ):
        assert not verify(other, stored, PEPPER)


def test_a_stolen_database_is_of_no_use_without_the_pepper() -> None:
    stored = hash_password("x" * 20, PEPPER)
    assert not verify("x" * 20, stored, b"another")
    assert stored != hash_password("x" * 20, PEPPER), "each has a salt of its own"


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "nonsense",
        "x" * 100_000,
        bcrypt.hashpw(b"x" * 20, bcrypt.gensalt(4)).decode(),
        "$hmac-sha256-bcrypt$2b$31$" + "a" * 53,
        "$hmac-sha256-bcrypt$2b$04$" + "a" * 53,
        "$hmac-sha256-bcrypt$2b$12$" + "a" * 52,
        "$hmac-sha256-bcrypt$2b$12$" + "a" * 53 + "\n",
    ],
    ids=["empty", "nonsense", "huge", "bare bcrypt", "days of work", "worthless", "cut", "newline"],
)
def test_a_stored_hash_that_is_none_matches_nothing_and_is_reported(stored: str) -> None:
    """Neither an exception at log-in nor a core for days (cost 31)."""
    with capture_logs() as logs:
        assert not verify("x" * 20, stored, PEPPER)
    assert [line["log_level"] for line in logs] == ["error"]
    assert "x" * 20 not in str(logs)
