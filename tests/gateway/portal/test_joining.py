"""Invitations: one link, one person, one tenant, one role; and nobody gives what they could not give now."""

import asyncio
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.portal.entry import joining
from gateway.portal.entry.identity import IDENTITY
from gateway.portal.mail.sending import MAILER
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.identity.tenants import Role, UserStatus
from policies.people import InvitationState
from storage.ports import AlreadyExists, NotFound
from storage.postgres.tenants.invitations import PostgresInvitations
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, actions, fill, log_in
from tests.gateway.portal.test_recovery import letters, link_in
from tests.storage.waiting import until

GUEST = "grace@example.com"
NEW = "tr0mbone lantern basil 9"


def request_of(portal: Client) -> web.Request:
    """A request to the portal's application, for functions that take one."""
    return make_mocked_request("POST", "/", app=portal.server.app)


async def invited(portal: Client, town: Town, address: str = GUEST, role: Role = Role.MEMBER, **more: object) -> str:
    """The path of the link."""
    by = str(more.get("by", town.user.id))
    await joining.invite(request_of(portal), town.tenant.id, address, role, by)
    return link_in(letters(town.parts, address)[-1][1], portal.server.app[PARTS].public_url)


async def roles(town: Town) -> dict[str, str]:
    """Of every member."""
    return {user.email: membership.role for user, membership in await town.directory.users(town.tenant.id)}


async def test_somebody_new_joins_and_is_signed_in(portal: Client, town: Town) -> None:
    link = await invited(portal, town, role=Role.ADMIN)
    for _ in range(2):
        page = await portal.get(link, headers=PAGE)
        assert (page.status, page.headers["Referrer-Policy"]) == (200, "no-referrer")
        assert f"<b>Ada</b> invites <b>{GUEST}</b> to <b>Acme</b> as <b>admin</b>" in await page.text()
    answer = await fill(portal, link, name="Grace", password=NEW, again=NEW)
    assert (answer.status, answer.headers["Location"]) == (303, "/account")
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 200
    assert (await roles(town))[GUEST] == "admin"
    assert (await portal.get(link, headers=PAGE)).status == 410
    assert {"invitation.created", "invitation.accepted", "session.started"} <= set(await actions(town.parts))


async def test_a_refused_form_keeps_the_name_and_says_at_the_field_what_is_wrong(portal: Client, town: Town) -> None:
    link = await invited(portal, town)
    page = await (await fill(portal, link, name="Grace <3", password=NEW, again="another")).text()
    assert 'value="Grace &lt;3"' in page
    field = page.partition('<input id="again"')[2].partition(">")[0]
    assert 'aria-describedby="again-fault"' in field
    assert "autofocus" in field
    assert page.count("autofocus") == 1


async def test_of_many_that_redeem_it_at_once_one_joins(portal: Client, town: Town) -> None:
    """T-12 (authentik CVE-2022-23555)."""
    link = await invited(portal, town)
    answers = await asyncio.gather(*(fill(portal, link, name=f"G{n}", password=NEW, again=NEW) for n in range(5)))
    assert [answer.status for answer in answers].count(303) == 1
    rows = await town.parts.pool.read("SELECT count(*) AS n FROM platform.users WHERE email = $1", GUEST)
    assert rows[0]["n"] == 1


async def test_the_invited_may_decline_and_the_inviter_sees_it(portal: Client, town: Town) -> None:
    """By the link alone, once and for good; the inviter may ask again."""
    link = await invited(portal, town)
    answer = await fill(portal, link, f"{link}/decline")
    assert (answer.status, answer.headers["Referrer-Policy"]) == (200, "no-referrer")
    assert "You do not join Acme" in await answer.text()
    for dead in (await portal.get(link, headers=PAGE), await portal.post(f"{link}/decline", headers=PAGE)):
        assert dead.status == 410
    assert GUEST not in await roles(town)
    assert "invitation.declined" in await actions(town.parts)
    await until(lambda: bool(letters(town.parts, EMAIL)))
    assert letters(town.parts, EMAIL)[0][0] == f"{GUEST} does not join Acme"
    book = PostgresInvitations(town.parts.pool, town.parts.trail)
    (declined,) = await book.page(town.tenant.id, 10, state=InvitationState.DECLINED)
    assert declined.state(town.parts.now()) is InvitationState.DECLINED
    assert not await book.page(town.tenant.id, 10, state=InvitationState.REVOKED)
    with pytest.raises(NotFound):
        await book.send_again(town.tenant.id, declined.id, b"d" * 32)
    assert (await portal.get(await invited(portal, town), headers=PAGE)).status == 200


async def test_a_program_declines_with_the_link_and_gets_what_has_become_of_it(portal: Client, town: Town) -> None:
    link = await invited(portal, town, by="svc_00000000000000000000")
    answer = await portal.post(f"{link}/decline", headers={"Accept": "application/json"})
    assert (answer.status, (await answer.json())["state"]) == (200, "declined")
    assert (await portal.post("/auth/invite/nonsense/decline")).status == 410


async def test_of_accepting_and_declining_at_once_one_is_done(portal: Client, town: Town) -> None:
    link = await invited(portal, town)
    joins = (fill(portal, link, name=f"G{n}", password=NEW, again=NEW) for n in range(2))
    declines = (fill(portal, link, f"{link}/decline") for _ in range(3))
    answers = await asyncio.gather(*declines, *joins)
    assert sorted(answer.status for answer in answers)[1:] == [410] * 4
    done = {"invitation.accepted", "invitation.declined"} & set(await actions(town.parts))
    assert len(done) == 1
    assert (GUEST in await roles(town)) is (done == {"invitation.accepted"})


async def test_who_has_an_account_joins_signed_in_and_keeps_the_password(portal: Client, town: Town) -> None:
    """A link must not set a known person's password, nor let another one in."""
    other = await town.directory.create_tenant("other", "Other")
    await town.add(GUEST, tenant=other.id)
    link = await invited(portal, town)
    assert "Sign in" in await (await portal.get(link, headers=PAGE)).text()
    form = re.search(r'name="csrf" value="([^"]+)"', await (await portal.get("/auth/login", headers=PAGE)).text())[1]
    taken = {"csrf": form, "name": "Evil", "password": NEW, "again": NEW}
    assert (await portal.post(link, data=taken, headers=PAGE)).status == 401
    await log_in(portal)  # somebody else
    assert f"signed in as <b>{EMAIL}" in await (await portal.get(link, headers=PAGE)).text()
    await log_in(portal, GUEST)
    assert (await fill(portal, link)).status == 303
    assert (await roles(town))[GUEST] == "member"
    assert (await log_in(portal, GUEST, PASSWORD, tenant="acme")).status == 200


async def test_who_signs_in_to_join_comes_back_to_the_invitation(portal: Client, town: Town) -> None:
    """Signed out, and signed in as somebody else."""
    await town.add(GUEST)
    globex = await town.directory.create_tenant("globex", "Globex")
    await joining.invite(request_of(portal), globex.id, GUEST, Role.MEMBER, None)
    link = link_in(letters(town.parts, GUEST)[-1][1])
    page = await (await portal.get(link, headers=PAGE)).text()
    assert f'href="/auth/login?next={link}"' in page
    await log_in(portal)
    out = await fill(portal, link, f"/auth/logout?next={link}")
    assert out.headers["Location"] == f"/auth/login?next={link}"
    back = await fill(portal, out.headers["Location"], email=GUEST, password=PASSWORD)
    assert back.headers["Location"] == link
    assert (await fill(portal, link, link)).status == 303


@pytest.mark.parametrize(
    "case", ["revoked", "declined", "expired", "sent again", "demoted", "removed", "disabled inviter"]
)
async def test_an_invitation_that_does_not_hold_any_more_is_410(portal: Client, town: Town, case: str) -> None:
    """T-12, T-13, T-15: to the second, and no more than the inviter could give now."""
    boss = await town.add("boss@example.com", Role.ADMIN)
    link = await invited(portal, town, role=Role.ADMIN, by=boss.id)
    parts = town.parts
    (row,) = await parts.pool.read("SELECT id FROM platform.invitations")
    book = PostgresInvitations(parts.pool, parts.trail)
    match case:
        case "revoked":
            await book.revoke(town.tenant.id, row["id"])
        case "declined":
            await portal.post(f"{link}/decline")
        case "expired":
            await parts.pool.read("UPDATE platform.invitations SET expires_at = now()")
        case "sent again":
            await joining.send_again(request_of(portal), town.tenant.id, row["id"])
        case "demoted":
            await parts.pool.read("UPDATE platform.memberships SET role = 'member' WHERE user_id = $1", boss.id)
        case "removed":
            await parts.pool.read("DELETE FROM platform.memberships WHERE user_id = $1", boss.id)
        case "disabled inviter":
            await town.directory.set_user_status(town.tenant.id, "boss@example.com", UserStatus.DISABLED)
    page = await portal.get(link, headers=PAGE)
    if page.status == 200:  # what the inviter may is found out when it counts
        page = await fill(portal, link, name="Grace", password=NEW, again=NEW)
    assert page.status == 410
    assert GUEST not in await roles(town)


async def test_an_invitation_is_pending_then_over(portal: Client, town: Town) -> None:
    """Listed for its tenant alone; sent again it is another link; a member cannot be invited; unknown is not found."""
    parts, tenant = town.parts, town.tenant.id
    book = PostgresInvitations(parts.pool, parts.trail)
    first = await invited(portal, town)
    second = await invited(portal, town)  # in place of the first
    assert [one.state(parts.now()) for one in await book.page(tenant, 10)] == [
        InvitationState.PENDING, InvitationState.REVOKED,
    ]  # fmt: skip
    assert (await portal.get(first, headers=PAGE)).status == 410
    assert (await portal.get(second, headers=PAGE)).status == 200
    with pytest.raises(AlreadyExists):
        await joining.invite(request_of(portal), tenant, EMAIL.upper(), Role.MEMBER, None)
    with pytest.raises(Problem, match="invalid_input"):
        await joining.invite(request_of(portal), tenant, "a@b\r\nBcc: x@y", Role.MEMBER, None)
    other = await town.directory.create_tenant("other", "Other")
    assert not await book.page(other.id, 10)
    (pending, _) = await book.page(tenant, 10)
    for wrong in (pending.id[:-1] + ("1" if pending.id.endswith("0") else "0"), "nonsense"):
        with pytest.raises(NotFound):
            await book.revoke(tenant, wrong)
    with pytest.raises(NotFound):
        await book.revoke(other.id, pending.id)
    await book.revoke(tenant, pending.id)
    with pytest.raises(NotFound):
        await book.send_again(tenant, pending.id, b"d" * 32)


async def test_only_a_digest_is_stored(portal: Client, town: Town) -> None:
    link = await invited(portal, town)
    rows = await town.parts.pool.read("SELECT i::text AS all FROM platform.invitations i")
    assert link.rpartition("/")[2] not in rows[0]["all"]
    assert portal.server.app[MAILER].is_on
    assert portal.server.app[PARTS] is portal.server.app[IDENTITY].parts
