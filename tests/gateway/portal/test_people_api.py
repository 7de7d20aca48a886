"""Invitations and sessions over the API: as declared, in one tenant, and never with more than one's own permissions."""

import pytest

from gateway.portal.entry import joining
from policies.identity.tenants import Role
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, log_in
from tests.gateway.portal.test_recovery import letters, link_in


async def test_an_invitation_is_made_shown_sent_again_and_revoked(houses: Houses, town: Town, portal: Client) -> None:
    owner, stranger = await houses.person(), await houses.person()
    made = await owner.ask("POST", "/invitations", {"email": "Bob@example.com", "role": "admin"}, status=201)
    assert (made["email"], made["role"], made["state"]) == ("bob@example.com", "admin", "pending")
    first = link_in(letters(town.parts, "bob@example.com")[-1][1])
    assert (await owner.ask("GET", "/invitations"))["data"] == [made]
    assert (await stranger.ask("GET", "/invitations"))["data"] == []
    for method, path in (("GET", ""), ("POST", "/send"), ("DELETE", "")):
        await stranger.ask(method, f"/invitations/{made['id']}{path}", status=404)
    await owner.ask("POST", f"/invitations/{made['id']}/send")
    assert (await portal.get(first, headers=PAGE)).status == 410
    await owner.ask("DELETE", f"/invitations/{made['id']}", status=204)
    assert (await owner.ask("GET", f"/invitations/{made['id']}"))["state"] == "revoked"


async def test_nobody_is_flooded_with_invitations(houses: Houses, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q-06: whatever the spelling of the address, made anew or sent again; other tenants' letters are others."""
    owner, other = await houses.person(), await houses.person()
    for spelling in (
        "Bob@example.com",
        "bob+1@example.com",
        "bob+2@example.com",
        "bob@example.com",
        "bob+3@example.com",
    ):
        made = await owner.ask("POST", "/invitations", {"email": spelling}, status=201)
    problem = await owner.ask("POST", f"/invitations/{made['id']}/send", status=429)
    assert problem["code"] == "rate_limit_exceeded"
    await owner.ask("POST", "/invitations", {"email": "bob+4@example.com"}, status=429)
    assert len(letters(town.parts, "bob+3@example.com")) == 1
    await other.ask("POST", "/invitations", {"email": "bob@example.com"}, status=201)
    monkeypatch.setattr(joining, "_FREE_BY_TENANT", 2)
    for number, status in enumerate((201, 429)):
        await other.ask("POST", "/invitations", {"email": f"ann{number}@example.com"}, status=status)


async def test_nobody_invites_above_themselves(houses: Houses, town: Town) -> None:
    """T-05; and who manages no people invites nobody."""
    admin, member = await houses.person(role=Role.ADMIN), await houses.person(role=Role.MEMBER)
    await admin.ask("POST", "/invitations", {"email": "bob@example.com", "role": "owner"}, status=403)
    await admin.ask("POST", "/invitations", {"email": "bob@example.com", "role": "admin"}, status=201)
    await member.ask("POST", "/invitations", {"email": "bob@example.com"}, status=403)
    for wrong in ({"email": "nonsense"}, {"email": "a@b.example", "role": "king"}, {"email": "a@b.example", "x": 1}):
        await admin.ask("POST", "/invitations", wrong, status=422)


async def test_a_program_is_signed_out_by_who_may(houses: Houses, town: Town, portal: Client) -> None:
    """Who signed in by the password without a browser is in the same list, in the order of age, and ends as well."""
    grant = {"grant_type": "password", "email": EMAIL, "password": PASSWORD, "scope": "transcribe"}
    for _ in range(2):
        await log_in(portal)
        token = await (await portal.post("/auth/token", json=grant)).json()
    portal.session.cookie_jar.clear()
    owner, stranger = await houses.person(town.tenant), await houses.person()
    one_by_one, cursor = [], ""
    while cursor is not None:
        page = await owner.ask("GET", f"/sessions?limit=1&sort=created&cursor={cursor}")
        one_by_one, cursor = one_by_one + page["data"], page["next_cursor"]
    assert [one["kind"] for one in one_by_one] == ["program", "browser", "program"]  # the first browser signed in anew
    assert (await owner.ask("GET", f"/sessions?user_id={town.user.id}"))["data"] == one_by_one[::-1]
    (program, *_) = one_by_one[::-1]
    assert (program["client"], program["scopes"], program["methods"]) == ("first-party", ["transcribe"], [])
    await stranger.ask("GET", f"/sessions/{program['id']}", status=404)
    admin = await houses.person(town.tenant, Role.ADMIN)
    await admin.ask("DELETE", f"/sessions/{program['id']}", status=403)
    await owner.ask("DELETE", f"/sessions/{program['id']}", status=204)
    await owner.ask("DELETE", f"/sessions/{program['id']}", status=404)
    again = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    assert (await portal.post("/auth/token", json=again)).status == 400
    assert program not in (await owner.ask("GET", "/sessions"))["data"]


async def test_a_browser_is_signed_out_by_who_may(houses: Houses, town: Town, portal: Client) -> None:
    await log_in(portal)
    portal.session.cookie_jar.clear()
    owner, stranger = await houses.person(town.tenant), await houses.person()
    (session,) = (await owner.ask("GET", "/sessions"))["data"]
    assert (session["user_id"], session["methods"]) == (town.user.id, ["pwd"])
    assert (await stranger.ask("GET", "/sessions"))["data"] == []
    await stranger.ask("DELETE", f"/sessions/{session['id']}", status=404)
    admin = await houses.person(town.tenant, Role.ADMIN)
    assert (await admin.ask("GET", "/sessions"))["data"] == [session]
    await admin.ask("DELETE", f"/sessions/{session['id']}", status=403)  # or it could keep the owner out
    seen = await owner.client.get(f"/platform/v1/sessions/{session['id']}", headers=dict(owner.headers))
    assert await seen.json() == session
    version = {"If-Match": seen.headers["ETag"]}
    await owner.ask("DELETE", f"/sessions/{session['id']}", status=204, headers=version)
    await owner.ask("DELETE", f"/sessions/{session['id']}", status=404)
    assert (await owner.ask("GET", "/sessions"))["data"] == []
