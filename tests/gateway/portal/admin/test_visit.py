"""What was begun in one tenant is not done in another; an old proof opens no door beside the pages."""

import pytest

from policies.identity.tenants import Role
from storage.postgres.keys.registry import PostgresKeyRegistry
from tests.gateway.portal.admin.reading import forget_the_password, raw, text_of
from tests.gateway.portal.conftest import PAGE, SAME_ORIGIN, Client, Town, fill, form_of, log_in

NEW_KEY, NEW_INVITATION = "/admin/keys/new", "/admin/invitations/new"
API = "/platform/v1"


async def test_who_is_signed_out_over_a_form_is_told_that_nothing_was_done(portal: Client, town: Town) -> None:
    await log_in(portal)
    target, hidden = await form_of(portal, NEW_KEY, NEW_KEY)
    await fill(portal, "/account/sessions", which="everywhere")
    answer = await portal.post(target, data=hidden | {"name": "Crawler"}, headers=PAGE, allow_redirects=False)
    assert answer.status == 401
    page = text_of(await answer.text())
    assert "Your session has ended, so nothing was changed" in page
    assert "credential" not in page
    assert await PostgresKeyRegistry(town.parts.pool, town.parts.trail).keys(town.tenant.id) == []


async def test_a_form_is_for_the_tenant_that_it_was_opened_in(portal: Client, town: Town) -> None:
    """Tabs share a session: the switcher in one of them must not make another's form mean another tenant."""
    other = await town.directory.create_tenant("other", "Other")
    bob = await town.add("bob@example.com")
    async with town.parts.pool.operator() as connection:
        for person in (town.user, bob):
            await connection.execute(
                "INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'owner')",
                other.id,
                person.id,
            )
    await log_in(portal)
    forms = [
        await form_of(portal, NEW_KEY, NEW_KEY),
        await form_of(portal, NEW_INVITATION, NEW_INVITATION),
        await form_of(portal, "/account/tokens/new", "/account/tokens/new"),
        await form_of(portal, f"/admin/members/{bob.id}", f"/admin/members/{bob.id}/remove"),
    ]
    assert (await fill(portal, "/admin", "/account/tenant", tenant=other.id)).status == 303
    wish = {
        "name": "Crawler",
        "scope-transcribe": "on",
        "life": "30",
        "email": "new@example.com",
        "role": "admin",
        "transcribe": "on",
    }
    for target, hidden in forms:
        hidden.pop("version", None)
        answer = await portal.post(target, data=hidden | wish, headers=PAGE, allow_redirects=False)
        assert answer.status == 403, target
        assert "Nothing was done: since the page was opened you have changed the organisation" in text_of(
            await answer.text()
        )
    keys = PostgresKeyRegistry(town.parts.pool, town.parts.trail)
    assert not [*await keys.keys(other.id), *await keys.keys(town.tenant.id)]
    assert "new@example.com" not in await raw(portal, "/admin/invitations")
    assert "bob@example.com" in await raw(portal, "/admin/members")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/keys", {"name": "Crawler"}),
        ("POST", "/keys/{key}/rotate", {}),
        ("PATCH", "/keys/{key}", {"enabled": True}),
        ("POST", "/service-accounts", {"name": "Crawler", "scopes": ["transcribe"]}),
        ("POST", "/invitations", {"email": "new@example.com", "role": "member"}),
        ("PATCH", "/memberships/{bob}", {"role": "admin"}),
        ("PUT", "/tenant/second-factor", {"roles": []}),
        ("POST", "/webhooks", {"url": "https://hooks.example.com/x", "events": ["key.created"]}),
        ("POST", "/roles", {"name": "all", "description": "", "permissions": ["keys:write"]}),
    ],
)
async def test_the_api_is_no_way_past_the_question_for_the_password(
    portal: Client, town: Town, method: str, path: str, body: dict[str, object]
) -> None:
    """What outlives the session is not had with a browser that was left open, whatever it sends."""
    bob = await town.add("bob@example.com", Role.MEMBER)
    await log_in(portal)
    async with portal.post(f"{API}/keys", json={"name": "there"}, headers=SAME_ORIGIN) as answer:
        key_id = (await answer.json())["id"]
    await forget_the_password(town)
    goal = API + path.format(key=key_id, bob=bob.id)
    async with portal.request(method, goal, json=body, headers=SAME_ORIGIN) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "fresh_login_required")
    await log_in(portal)
    async with portal.request(method, goal, json=body, headers=SAME_ORIGIN) as answer:
        assert answer.status in (200, 201), await answer.text()


async def test_what_ends_something_needs_no_new_proof(portal: Client, town: Town) -> None:
    """Who finds a key lost, or a browser of a stranger, is not kept from stopping it."""
    bob = await town.add("bob@example.com", Role.MEMBER)
    await log_in(portal)
    async with portal.post(f"{API}/keys", json={"name": "there"}, headers=SAME_ORIGIN) as answer:
        key_id = (await answer.json())["id"]
    await forget_the_password(town)
    sent = {"headers": SAME_ORIGIN}
    assert (await portal.patch(f"{API}/keys/{key_id}", json={"enabled": False}, **sent)).status == 200
    assert (await portal.delete(f"{API}/keys/{key_id}", **sent)).status == 204
    assert (await portal.delete(f"{API}/memberships/{bob.id}", **sent)).status == 204
