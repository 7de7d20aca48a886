"""People: exact ends, no role above one's own, one bucket an account, and no way off our own origin."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.identity.permissions import ROLES
from policies.identity.tenants import Role
from policies.people import (
    FRESH_S,
    Invitation,
    InvitationState,
    Session,
    account_bucket,
    folded_email,
    may_invite,
    safe_next,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECOND = timedelta(seconds=1)
INVITATION = Invitation(
    id="inv_1", tenant_id="ten_1", email="a@b.example", role=Role.MEMBER, invited_by=None, created_at=NOW, sent_at=NOW,
    expires_at=NOW + SECOND, accepted_at=None, revoked_at=None, declined=False,
)  # fmt: skip
SESSION = Session(
    id="ses_1", tenant_id="ten_1", user_id="usr_1", methods=("pwd",), address="", agent="", created_at=NOW, seen_at=NOW,
    authenticated_at=NOW, expires_at=NOW,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "at", "state"),
    [
        ({}, NOW, InvitationState.PENDING),
        ({}, NOW + SECOND - timedelta(microseconds=1), InvitationState.PENDING),
        ({}, NOW + SECOND, InvitationState.EXPIRED),
        ({"revoked_at": NOW}, NOW, InvitationState.REVOKED),
        ({"revoked_at": NOW, "declined": True}, NOW + SECOND, InvitationState.DECLINED),
        ({"accepted_at": NOW}, NOW + SECOND, InvitationState.ACCEPTED),
    ],
)
def test_an_invitation_ends_to_the_second(changes: dict[str, Any], at: datetime, state: InvitationState) -> None:
    assert dataclasses.replace(INVITATION, **changes).state(at) is state


def test_a_log_in_is_fresh_for_minutes() -> None:
    assert SESSION.is_fresh(NOW + timedelta(seconds=FRESH_S - 1))
    assert not SESSION.is_fresh(NOW + timedelta(seconds=FRESH_S))


def test_nobody_gives_a_role_above_their_own() -> None:
    """The whole table: who gives, and what they may give."""
    allowed = {giver: {given for given in Role if may_invite(ROLES[giver], given)} for giver in Role}
    everything = set(Role)
    assert allowed == {
        Role.OWNER: everything,
        Role.ADMIN: everything - {Role.OWNER},
        Role.MEMBER: set(),
        Role.VIEWER: set(),
        Role.SERVICE: set(),
    }


@pytest.mark.parametrize(
    "spelling",
    [
        "Ada@Example.com",
        " ada@example.com ",
        "ada+news@example.com",
        "ada@example.com.",
        "\uff41da@example.com",
        "ada @example.com",
    ],
)
def test_one_account_is_one_bucket(spelling: str) -> None:
    assert account_bucket(spelling) == "ada@example.com"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        (" Ada@Example.com ", "ada@example.com"),
        ("re\u0301ne@example.com", "r\u00e9ne@example.com"),
        ("mi\u212ae@example.com", None),
        ("mike@e\u212aample.com", None),
        ("a\u037eb@example.com", None),
        ("no address", None),
        ("a@b@example.com", None),
        ("a b@example.com", None),
        (f"{'a' * 243}@example.com", None),
        ("ada\u202e@example.com", None),
    ],
)
def test_an_address_has_one_spelling_and_no_letter_becomes_another(text: str, folded: str | None) -> None:
    assert folded_email(text) == folded


@given(st.one_of(st.text(), st.builds("{}@{}".format, st.text(), st.text())))
@example("K@example.com")
@example("\u0131@example.com")
def test_whatever_finds_an_account_is_counted_in_its_bucket(text: str) -> None:
    """No error for any text, and no spelling that finds an account has tries of its own."""
    bucket = account_bucket(text)
    found = folded_email(text)
    assert found is None or account_bucket(found) == bucket


ORIGIN = "https://gw.example"
ODD = (
    "//",
    "/\\",
    "..",
    "evil.example",
    "gw.example",
    "https:",
    "javascript:",
    "data:",
    "auth",
    "login",
    "next=",
    "v1",
)
ESCAPES = ("%2f", "%5c", "%09", "%00", "%0d%0a", "%2e")
LETTERS = tuple("/\\.@:?#&=a;[]\t\n\r\0 \u00e9\uff0f\u3002")
PIECES = st.sampled_from((*ODD, *ESCAPES, *LETTERS))


@given(st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=8).map("".join)))
@example("//evil.example")
@example("/\\evil.example")
@example("/\t/evil.example")
@example("/%09/evil.example")
@example("///evil.example")
@example("https:evil.example")
@example("https://gw.example@evil.example/")
@example("/auth/login?next=/auth/logout?next=//evil.example")
@example("javascript:alert(1)")
@example("/x%0d%0aSet-Cookie:a=b")
def test_no_goal_leads_off_our_origin(target: str) -> None:
    """R-01 to R-05: as sent or decoded once more, a browser stays here, on a path, and on no log-in page."""
    goal = safe_next(target, "/account")
    for reading in (goal, goal.replace("\\", "/"), re.sub(r"[\t\r\n]", "", goal)):
        joined = urlsplit(urljoin(ORIGIN + "/auth/login", reading))
        assert (joined.scheme, joined.netloc) == ("https", "gw.example")
    assert goal.startswith("/")
    assert not goal.startswith(("//", "/\\", "/auth/")) or goal.startswith("/auth/invite/thk_invite_")
    assert goal.isascii()
    assert not re.search(r"[\x00-\x20\x7f]", goal)
    assert not unquote(urlsplit(goal).path).startswith("//")


@pytest.mark.parametrize(
    "target", ["/account", "/v1/models?limit=2", "/admin/users?cursor=a%20b", "/", "/auth/invite/thk_invite_a-_9"]
)
def test_a_plain_path_is_a_goal(target: str) -> None:
    assert safe_next(target, "/default") == target
