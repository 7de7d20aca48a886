"""Members and invitations on pages: what the API does, for whoever may; nothing of another tenant's."""

import re

import pytest

from policies.identity.permissions import ROLES
from policies.identity.tenants import Role
from storage.postgres.tenants.members import PostgresMembers, permissions_in
from storage.postgres.tenants.roles import PostgresRoles
from tests.gateway.portal.admin.reading import entries, forget_the_password, raw, read, text_of
from tests.gateway.portal.conftest import EMAIL, PAGE, SAME_ORIGIN, Client, Town, fill, log_in
from tests.gateway.portal.test_recovery import letters

NEW = "/admin/invitations/new"
BOB = "bob@example.com"


async def invited(portal: Client, email: str = BOB, **fields: str) -> tuple[int, str]:
    """Invite by the form; the status and the page."""
    answer = await fill(portal, NEW, NEW, email=email, **({"role": "member"} | fields))
    return answer.status, await answer.text()


async def roles(town: Town) -> dict[str, str]:
    found = await PostgresMembers(town.parts.pool, town.parts.trail).page(
        town.tenant.id, 9, sort="email", beyond=None, role=None
    )
    return {member.email: member.custom_role or member.role.value for member in found}


async def test_somebody_is_invited_again_and_no_more(portal: Client, town: Town) -> None:
    """The letter goes once for a form that is sent twice; its end is told on the list."""
    await log_in(portal)
    assert "Nobody was invited so far." in await read(portal, "/admin/invitations")
    page = await raw(portal, NEW)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition("narrow")[2]))
    for _ in range(2):
        answer = await portal.post(
            NEW, data=hidden | {"email": BOB, "role": "admin"}, headers=PAGE, allow_redirects=False
        )
        assert answer.headers["Location"] == "/admin/invitations?done=invited"
    assert len(letters(town.parts, BOB)) == 1
    listed = await raw(portal, "/admin/invitations?state=pending")
    assert "bob@example.com admin pending" in text_of(listed)
    assert "by ada@example.com" in text_of(listed)
    again, revoke = re.findall(r'action="(/admin/invitations/inv_\w+/(?:send|revoke))"', listed)
    assert (await fill(portal, "/admin/invitations", again)).status == 303
    assert len(letters(town.parts, BOB)) == 2
    assert (await fill(portal, "/admin/invitations", revoke)).status == 303
    assert "No invitation is like that" in await read(portal, "/admin/invitations?state=pending")
    assert "/send" not in await raw(portal, "/admin/invitations")


async def test_a_member_is_found_by_a_part_of_the_address(portal: Client, town: Town) -> None:
    await town.add(BOB)
    await log_in(portal)
    found = await raw(portal, "/admin/members?email=BOB@")
    assert re.findall(r'aria-label="Open ([^"]+)"', found) == [BOB]
    assert "Nobody is like that" in await read(portal, "/admin/members?email=nobody")
    assert 'name="email" type="text" value="nobody"' in await raw(portal, "/admin/members?email=nobody")


async def test_the_trail_has_what_it_has_of_the_api(portal: Client, town: Town) -> None:
    """The same action, actor and facts, whichever door was taken."""
    bob, eve = await town.add(BOB), await town.add("eve@example.com")
    await log_in(portal)
    await invited(portal, "one@example.com")
    path = f"/admin/members/{bob.id}"
    await fill(portal, path, f"{path}/role", role="viewer")
    await fill(portal, path, f"{path}/remove")
    sent = {"headers": SAME_ORIGIN | {"X-Client-IP": "192.0.2.1"}}
    await portal.post("/platform/v1/invitations", json={"email": "two@example.com", "role": "member"}, **sent)
    await portal.patch(f"/platform/v1/memberships/{eve.id}", json={"role": "viewer"}, **sent)
    await portal.delete(f"/platform/v1/memberships/{eve.id}", **sent)
    for action in ("invitation.created", "membership.changed", "membership.deleted"):
        by_page, by_api = await entries(town, action)
        for entry in (by_page, by_api):
            del entry["target_name"]
            for side in ("before", "after"):
                entry[side] = re.sub(r"2\d{3}-[-\d]+T[\d:.+]+", "", entry[side] or "")
        assert by_page == by_api, action
        assert by_page["actor_id"] == town.user.id


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"email": "nobody"}, 422, 'href="#email'),
        ({"role": "emperor"}, 422, 'href="#role'),
        ({"email": EMAIL}, 409, "member"),
    ],
)
async def test_what_is_wrong_with_an_invitation_is_said(
    portal: Client, town: Town, fields: dict[str, str], status: int, told: str
) -> None:
    await log_in(portal)
    found, page = await invited(portal, **fields)
    assert found == status
    assert told in page
    assert not letters(town.parts)


async def test_a_member_gets_another_role_also_one_of_the_tenants_own(portal: Client, town: Town) -> None:
    bob = await town.add(BOB)
    await PostgresRoles(town.parts.pool, town.parts.trail).create(town.tenant.id, "clerk", "", ["keys:read"])
    await log_in(portal)
    path = f"/admin/members/{bob.id}"
    for choice, role in (("admin", "admin"), ("own:clerk", "clerk"), ("viewer", "viewer")):
        answer = await fill(portal, path, f"{path}/role", role=choice)
        assert answer.headers["Location"] == f"{path}?done=role"
        assert (await roles(town))[BOB] == role
    assert (await fill(portal, path, f"{path}/role", role="own:none")).status == 404
    assert (await fill(portal, path, f"{path}/role", role="emperor")).status == 422
    assert re.findall(r'<a href="/admin/members/usr_\w+">([\w ]+)</a>', await raw(portal, "/admin/members?role=viewer"))
    assert "Nobody is in this role" in await read(portal, "/admin/members?role=service")


async def test_a_change_is_for_the_member_that_was_seen(portal: Client, town: Town) -> None:
    """T-11: the role was changed meanwhile by somebody else."""
    bob = await town.add(BOB)
    await log_in(portal)
    path = f"/admin/members/{bob.id}"
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', await raw(portal, path)))
    await fill(portal, path, f"{path}/role", role="admin")
    for verb in ("role", "remove"):
        answer = await portal.post(f"{path}/{verb}", data=hidden | {"role": "viewer"}, headers=PAGE)
        assert answer.status == 412
    assert (await roles(town))[BOB] == "admin"


async def test_the_last_owner_stays(portal: Client, town: Town) -> None:
    """It is told before; and refused where the form is sent all the same. With a second one the first may leave."""
    bob = await town.add(BOB)
    await log_in(portal)
    path = f"/admin/members/{town.user.id}"
    looked = await raw(portal, path)
    assert "This is the only owner" in looked
    assert "/remove" not in looked
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', await raw(portal, NEW)))
    for verb in ("role", "remove"):
        answer = await portal.post(f"{path}/{verb}", data=hidden | {"role": "member"}, headers=PAGE)
        assert answer.status == 409
    await fill(portal, f"/admin/members/{bob.id}", f"/admin/members/{bob.id}/role", role="owner")
    assert (await fill(portal, path, f"{path}/remove")).headers["Location"] == "/account?done=member-removed"
    assert await roles(town) == {BOB: "owner"}
    assert (await portal.get("/admin", headers=PAGE, allow_redirects=False)).status == 303


async def test_nobody_gives_or_takes_more_than_they_hold(portal: Client, town: Town) -> None:
    """T-05: an admin neither makes an owner nor touches one; the forms are not there either."""
    await town.add(BOB, Role.ADMIN)
    await log_in(portal, BOB)
    assert '<option value="owner"' not in await raw(portal, NEW)
    assert (await invited(portal, "new@example.com", role="owner"))[0] == 403
    path = f"/admin/members/{town.user.id}"
    looked = await raw(portal, path)
    assert f"{path}/role" not in looked
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', looked))
    await town.add("cal@example.com", Role.OWNER)
    assert "holds more than yours" in await raw(portal, path)
    for verb in ("role", "remove"):
        sent = hidden | {"in": town.tenant.id, "role": "member"}
        assert (await portal.post(f"{path}/{verb}", data=sent, headers=PAGE)).status == 403
    assert (await roles(town))[EMAIL] == "owner"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_who_may_not_manage_people_has_no_form(portal: Client, town: Town, role: Role) -> None:
    """A viewer looks, a member does not even see that there is something."""
    eve = await town.add("eve@example.com", role)
    await log_in(portal, "eve@example.com")
    sees = 200 if role is Role.VIEWER else 403
    for path in ("/admin/members", f"/admin/members/{town.user.id}", "/admin/invitations"):
        page = await raw(portal, path, sees)
        assert not re.search(r'(?:href|action)="/admin/[^"]*/(?:new|role|remove|send|revoke)"', page)
    assert ('href="/admin/members"' in await raw(portal, "/admin")) is (role is Role.VIEWER)
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', await raw(portal, "/admin")))
    path = f"/admin/members/{eve.id}"
    for target in (NEW, f"{path}/role", f"{path}/remove", "/admin/invitations/inv_x/send"):
        sent = hidden | {"in": town.tenant.id, "role": "owner", "email": BOB}
        assert (await portal.post(target, data=sent, headers=PAGE)).status == 403
    assert await permissions_in(town.parts.pool, town.tenant.id, eve.id) == ROLES[role]


async def test_what_is_another_tenants_is_not_there(portal: Client, town: Town) -> None:
    """T-01, T-02: its member, and its invitation."""
    other = await town.directory.create_tenant("other", "Other")
    zoe = await town.add("zoe@example.com", Role.OWNER, tenant=other.id)
    await log_in(portal, "zoe@example.com")
    await invited(portal)
    theirs = re.search(r"/admin/invitations/(inv_\w+)/send", await raw(portal, "/admin/invitations"))[1]
    await log_in(portal)
    await read(portal, f"/admin/members/{zoe.id}", 404)
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', await raw(portal, NEW)))
    for target in (
        f"/admin/members/{zoe.id}/role", f"/admin/members/{zoe.id}/remove",
        f"/admin/invitations/{theirs}/send", f"/admin/invitations/{theirs}/revoke",
    ):  # fmt: skip
        assert (await portal.post(target, data=hidden | {"role": "viewer"}, headers=PAGE)).status == 404, target
    for path in ("/admin/members", "/admin/invitations"):
        assert "zoe" not in await raw(portal, path)
    assert len(letters(town.parts, BOB)) == 1


async def test_who_joins_or_rises_stays_so_the_password_is_asked_for(portal: Client, town: Town) -> None:
    """What ends something is done at once."""
    bob = await town.add(BOB)
    await log_in(portal)
    path = f"/admin/members/{bob.id}"
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', await raw(portal, path)))
    await forget_the_password(town)
    for target in (NEW, f"{path}/role"):
        sent = hidden | {"role": "owner", "email": "new@example.com"}
        answer = await portal.post(target, data=sent, headers=PAGE, allow_redirects=False)
        assert answer.headers["Location"].startswith("/account/confirm?next=")
    assert (await fill(portal, path, f"{path}/remove")).status == 303
    assert await roles(town) == {EMAIL: "owner"}
    assert not letters(town.parts)
