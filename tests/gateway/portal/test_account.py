"""A person's own pages: what is changed, who is signed out by it, and what is forgotten."""

import asyncio
import re
import time
from datetime import timedelta

import pyotp
import pytest

from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import Parts
from policies.identity.tenants import Role
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.people.trusted import PostgresTrustedBrowsers
from storage.postgres.tenants.invitations import PostgresInvitations
from tests.gateway.portal.conftest import (
    EMAIL,
    PAGE,
    PASSWORD,
    SAME_ORIGIN,
    Client,
    Town,
    actions,
    fill,
    form_of,
    log_in,
)
from tests.gateway.portal.test_recovery import NEW, letters, link_in
from tests.storage.waiting import until

COOKIE = "tahoe_session"


def cookie(portal: Client) -> str:
    """The session's secret that the browser holds now."""
    return next((morsel.value for morsel in portal.session.cookie_jar if morsel.key == COOKIE), "")


async def status(portal: Client, path: str, secret: str | None = None) -> int:
    """Of a page, for this browser or for one that holds a secret."""
    headers = PAGE
    if secret is not None:
        portal.session.cookie_jar.clear()
        headers = PAGE | {"Cookie": f"{COOKIE}={secret}"}
    return (await portal.get(path, headers=headers, allow_redirects=False)).status


async def person(parts: Parts, email: str = EMAIL) -> dict[str, object]:
    """The row."""
    rows = await parts.pool.read("SELECT * FROM platform.users WHERE email = $1", email)
    return dict(rows[0]) if rows else {}


PAGES = (
    "/account",
    "/account/security",
    "/account/sessions",
    "/account/data",
    "/account/second-factor",
    "/account/email",
)


async def test_an_address_with_a_slash_at_its_end_leads_to_the_page(portal: Client, town: Town) -> None:
    """After the log-in where there is none; never to another host, whatever stands between the slashes (R-08)."""
    answer = await portal.get("/account/", headers=PAGE, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/auth/login?next=/account/")
    await log_in(portal)
    for path in ("/account", "/account/security", "/account/evil.example", "/account/%5Cevil.example"):
        answer = await portal.get(f"{path}/", headers=PAGE, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, path)
    assert (await portal.get("/account//evil.example/", headers=PAGE, allow_redirects=False)).status == 404


async def test_every_page_asks_for_a_session_and_comes_back(portal: Client, town: Town) -> None:
    for path in PAGES:
        answer = await portal.get(path, headers=PAGE, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, f"/auth/login?next={path}")
        assert (await portal.get(path, allow_redirects=False)).status == 401
    await log_in(portal)
    for path in PAGES:
        answer = await portal.get(path, headers=PAGE, allow_redirects=False)
        assert answer.status == 200, path
        text = await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?! src)|\son\w+=|style=", text)
        assert text.count("<h1") == 1


async def test_a_profile_is_changed_and_nothing_else(portal: Client, town: Town) -> None:
    """T-04: what a form adds of itself is not taken; what it holds is escaped (C-09)."""
    await log_in(portal)
    sent = {"name": "<b>Ada</b> {{7*7}}", "language": "de", "time_zone": "Europe/Berlin", "status": "deleted",
            "email": "evil@example.com", "password_hash": "x", "operator": "true", "role": "owner"}  # fmt: skip
    assert (await fill(portal, "/account", "/account", **sent)).status == 303
    row = await person(town.parts)
    assert (row["name"], row["language"], row["time_zone"]) == ("<b>Ada</b> {{7*7}}", "de", "Europe/Berlin")
    assert (row["status"], row["operator"]) == ("active", False)
    page = await (await portal.get("/account", headers=PAGE)).text()
    assert "&lt;b&gt;Ada&lt;/b&gt; {{7*7}}" in page
    for wrong in (
        {"language": "xx"},
        {"time_zone": "../../etc/passwd"},
        {"name": " "},
        {"name": "a\r\nb"},
        {"name": "x" * 201},
    ):
        assert (await fill(portal, "/account", "/account", **({"name": "Ada"} | wrong))).status == 422


async def test_a_changed_password_signs_every_other_browser_out(portal: Client, town: Town) -> None:
    """C-02, K-08: this one gets a new session; the owner is told; the old password is needed."""
    await log_in(portal)
    other = cookie(portal)
    portal.session.cookie_jar.clear()
    await log_in(portal)
    before = cookie(portal)
    wrong = await fill(portal, "/account/security", "/account/password", current="nonsense", password=NEW, again=NEW)
    assert wrong.status == 422
    assert 'id="current-fault">This is not your password.' in await wrong.text()
    right = await fill(portal, "/account/security", "/account/password", current=PASSWORD, password=NEW, again=NEW)
    assert right.status == 303
    after = cookie(portal)
    assert after != before
    assert [await status(portal, "/account", secret) for secret in (after, before, other)] == [200, 303, 303]
    await until(lambda: letters(town.parts))
    assert (await log_in(portal)).status == 401
    assert "password.changed" in await actions(town.parts)


async def test_browsers_are_signed_out_one_all_others_or_everywhere(portal: Client, town: Town) -> None:
    secrets = []
    for _ in range(4):
        portal.session.cookie_jar.clear()
        await log_in(portal)
        secrets.append(cookie(portal))
    page = await (await portal.get("/account/sessions", headers=PAGE)).text()
    ids = re.findall(r'name="which" value="(ses_\w+)"', page)
    assert len(ids) == 4
    mine = re.findall(r"this one", page)
    assert len(mine) == 1

    async def end(which: str) -> int:
        token = re.search(
            r'name="csrf" value="([^"]+)"', await (await portal.get("/account/sessions", headers=PAGE)).text()
        )
        sent = {"csrf": token[1], "which": which}
        return (await portal.post("/account/sessions", data=sent, headers=PAGE, allow_redirects=False)).status

    rows = await town.parts.pool.read("SELECT id FROM platform.sessions ORDER BY id")
    assert await end(rows[0]["id"]) == 303
    assert await end("ses_nonsense") == 404
    assert await end("others") == 303
    kept = cookie(portal)
    assert [await status(portal, "/account", secret) for secret in secrets] == [303, 303, 303, 200]
    assert kept == secrets[3]
    await log_in(portal)
    last = cookie(portal)
    assert await end("everywhere") == 303
    assert await status(portal, "/account", last) == 303


async def test_nobody_ends_another_ones_session(portal: Client, town: Town) -> None:
    await town.add("bob@example.com")
    await log_in(portal)
    (row,) = await town.parts.pool.read("SELECT id FROM platform.sessions")
    secret = cookie(portal)
    portal.session.cookie_jar.clear()
    await log_in(portal, "bob@example.com")
    page = await (await portal.get("/account/sessions", headers=PAGE)).text()
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    sent = {"csrf": token, "which": row["id"]}
    assert (await portal.post("/account/sessions", data=sent, headers=PAGE)).status == 404
    assert await status(portal, "/account", secret) == 200


async def test_another_tenant_is_another_session(portal: Client, town: Town) -> None:
    other = await town.directory.create_tenant("other", "Other")
    await town.directory.create_user(other.id, EMAIL, "Ada", Role.VIEWER)
    await log_in(portal)
    first = cookie(portal)
    page = await (await portal.get("/account", headers=PAGE)).text()
    assert "Switch to Other" in page
    answer = await fill(portal, "/account", "/account/tenant")
    assert answer.status == 303
    second = cookie(portal)
    assert second != first
    assert await status(portal, "/account", first) == 303
    rows = await town.parts.pool.read("SELECT tenant_id FROM platform.sessions WHERE ended_at IS NULL")
    assert [row["tenant_id"] for row in rows] == [other.id]


# --- the second factor ------------------------------------------------------------------------------------------------


async def with_factor(portal: Client, town: Town) -> tuple[pyotp.TOTP, list[str]]:
    """Turn it on; the generator and the recovery codes."""
    await log_in(portal)
    page = await (await portal.get("/account/second-factor", headers=PAGE)).text()
    assert "data:image/svg+xml" in page
    key = re.search(r"<code>([A-Z2-7 ]+)</code>", page)[1].replace(" ", "")
    generator = pyotp.TOTP(key)
    token = re.search(r'action="/account/second-factor">\s*<input type="hidden" name="csrf" value="([^"]+)"', page)[1]
    wrong = await portal.post("/account/second-factor", data={"csrf": token, "code": "000000"}, headers=PAGE)
    assert wrong.status == 401
    sent = {"csrf": token, "code": generator.now()}
    shown = await portal.post("/account/second-factor", data=sent, headers=PAGE)
    assert shown.status == 200
    return generator, re.findall(r"<code>(\w{5}-\w{5})</code>", await shown.text())


async def test_a_second_factor_is_asked_for_and_no_step_comes_twice(portal: Client, town: Town) -> None:
    """RFC 6238 section 5.2; the page and the API alike, and no weaker twin (L-14)."""
    generator, codes = await with_factor(portal, town)
    assert len(set(codes)) == 10
    (row,) = await town.parts.pool.read("SELECT totp_sealed, totp_step FROM platform.users")
    assert generator.secret.encode() not in row["totp_sealed"]
    answer = await log_in(portal)
    assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "second_factor_required")
    code = generator.at(int(time.time()) + 30)  # which may come to its step on the way
    answers = await asyncio.gather(*(log_in(portal, code=code) for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401]
    assert (await log_in(portal, code=generator.at(int(time.time()) - 30))).status == 401
    portal.session.cookie_jar.clear()
    first = await fill(portal, "/auth/login", email=EMAIL, password=PASSWORD)
    assert (first.status, first.headers["Location"]) == (303, "/auth/mfa")
    assert not cookie(portal)
    assert (await fill(portal, "/auth/mfa", code="123456")).status == 401
    second = await fill(portal, "/auth/mfa", code=codes[0].upper().replace("-", " "))
    assert (second.status, second.headers["Location"]) == (303, "/account")
    assert await status(portal, "/account") == 200
    portal.session.cookie_jar.clear()
    assert (await log_in(portal, code=codes[0])).status == 401
    assert (await log_in(portal, code=codes[1])).status == 200


async def test_the_owner_is_told_of_every_recovery_code_that_was_used(portal: Client, town: Town) -> None:
    """It may have been found by somebody else."""
    _, codes = await with_factor(portal, town)
    assert (await log_in(portal, code=codes[0])).status == 200
    assert (await log_in(portal, code=codes[0])).status == 401
    await until(lambda: "9 are left" in str(letters(town.parts)))
    assert str(letters(town.parts)).count("recovery code of your account was used") == 1


async def test_guesses_at_a_code_are_counted(portal: Client, town: Town) -> None:
    """A million codes, five tries, then minutes."""
    await with_factor(portal, town)
    statuses = [(await log_in(portal, code=f"{number:06}")).status for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2


async def test_a_second_factor_is_removed_with_the_password_alone_just_given(portal: Client, town: Town) -> None:
    """And a log-in of a while ago is not enough. The owner is told, because somebody else may have done it."""
    _, codes = await with_factor(portal, town)
    await town.parts.pool.read(
        "UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '6 minutes'"
    )
    for path in ("/account/second-factor/remove", "/account/recovery-codes"):
        answer = await fill(portal, "/account/security", path)
        assert (answer.status, answer.headers["Location"]) == (303, "/account/confirm?next=/account?done%3Dconfirmed")
    assert (await fill(portal, "/account/confirm?next=/account/data", password="nonsense")).status == 401
    again = await fill(portal, "/account/confirm?next=/account/data", password=PASSWORD)
    assert again.headers["Location"] == "/account/data"
    new = re.findall(
        r"<code>(\w{5}-\w{5})</code>", await (await fill(portal, "/account/security", "/account/recovery-codes")).text()
    )
    assert len(new) == 10
    assert not set(new) & set(codes)
    assert (await log_in(portal, code=codes[2])).status == 401
    assert (await log_in(portal, code=new[2])).status == 200
    assert (await fill(portal, "/account/security", "/account/second-factor/remove")).status == 303
    assert (await log_in(portal)).status == 200
    await until(lambda: "second factor of your account was removed" in str(letters(town.parts)))


async def test_no_name_turns_the_page_around_it(portal: Client, town: Town) -> None:
    """CVE-2021-42574. Names that are written from right to left do without."""
    await log_in(portal)
    for name, status in (("Ada \u202egnirts", 422), ("\u2066Ada", 422), ("\u0622\u062f\u0627 \u200f1", 303)):
        fields = {"name": name, "language": "en", "time_zone": "UTC"}
        answer = await fill(portal, "/account", "/account", **fields)
        assert answer.status == status
    page = await (await fill(portal, "/account", "/account", name="\u202eAda", time_zone="Asia/Kathmandu")).text()
    assert "turns the direction of text" in page
    assert "<option selected>Asia/Kathmandu</option>" in page


@pytest.mark.parametrize(
    ("origin", "page"),
    [("http://gw.test", "/account/security"), ("http://evil.test", "/account"), ("http://gw.test/", "/account")],
)
async def test_proof_once_more_leads_back_to_the_form_that_asked_for_it(
    portal: Client, town: Town, origin: str, page: str
) -> None:
    """Its page says that nothing was done so far. Only a page of ours is gone back to."""
    await log_in(portal)
    await town.parts.pool.read("UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '1 hour'")
    target, form = await form_of(portal, "/account/data", "/account/data/delete")
    answer = await portal.post(
        target, data=form, headers=PAGE | {"Referer": f"{origin}/account/security"},
        allow_redirects=False,
    )  # fmt: skip
    assert answer.headers["Location"] == f"/account/confirm?next={page}?done%3Dconfirmed"


async def test_a_wrong_password_is_called_that_where_no_address_is_asked_for(portal: Client, town: Town) -> None:
    await log_in(portal)
    answer = await fill(portal, "/account/confirm", password="nonsense nonsense")
    assert answer.status == 401
    assert "This is not your password." in await answer.text()


async def test_who_has_nothing_to_confirm_with_is_told_what_to_do(portal: Client, town: Town) -> None:
    """As somebody whose provider the operator has taken away."""
    await log_in(portal)
    await town.parts.pool.read("UPDATE platform.users SET password_hash = NULL")
    page = await (await portal.get("/account/confirm", headers=PAGE)).text()
    assert "nothing else that could confirm it" in page
    assert 'href="/auth/forgot"' in page


async def test_who_has_no_password_sets_one_after_a_fresh_log_in(portal: Client, town: Town) -> None:
    """As somebody whom a provider has brought: the page asks for no password that there is not."""
    await log_in(portal)
    await town.parts.pool.read("UPDATE platform.users SET password_hash = NULL")
    assert 'name="current"' not in await (await portal.get("/account/security", headers=PAGE)).text()
    new = {"password": NEW, "again": NEW}
    await town.parts.pool.read("UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '1 hour'")
    assert (
        'href="/account/confirm?next=/account/security"'
        in await (await portal.get("/account/security", headers=PAGE)).text()
    )
    _, form = await form_of(portal, "/account/data", "/account/data/delete")
    answer = await portal.post("/account/password", data=form | new, headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"].startswith("/account/confirm?next=")
    assert (await person(town.parts))["password_hash"] is None
    await town.parts.pool.read("UPDATE platform.sessions SET authenticated_at = now()")
    answer = await fill(portal, "/account/security", "/account/password", **new)
    assert answer.headers["Location"] == "/account/security?done=password"
    assert (await log_in(portal, password=NEW)).status == 200


async def test_the_page_of_passwords_is_where_password_managers_look(portal: Client, town: Town) -> None:
    """And where who loads a refused form again comes to."""
    await log_in(portal)
    for path in ("/.well-known/change-password", "/account/password"):
        answer = await portal.get(path, headers=PAGE, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/account/security")


async def test_eight_characters_are_enough_with_a_second_factor(portal: Client, town: Town) -> None:
    await with_factor(portal, town)
    for password, expected in (("kX9#vQ2!", 303), ("kX9#vQ2", 422)):
        current = PASSWORD if expected == 303 else "kX9#vQ2!"
        answer = await fill(
            portal, "/account/security", "/account/password", current=current, password=password, again=password
        )
        assert answer.status == expected


# --- another address --------------------------------------------------------------------------------------------------


async def both_links(portal: Client, town: Town, new: str) -> tuple[str, str]:
    """Ask for a change; the links of the old and of the new address."""
    await log_in(portal)
    assert (await fill(portal, "/account/email", "/account/email", email=new)).status == 303
    return link_in(letters(town.parts)[-1][1]), link_in(letters(town.parts, new)[-1][1])


async def test_an_address_changes_when_both_have_confirmed(portal: Client, town: Town) -> None:
    """In either order; a look uses nothing up; each works once."""
    old, new = await both_links(portal, town, "ada@new.example")
    assert await status(portal, new) == 200
    assert (await fill(portal, new)).status == 200
    assert (await person(town.parts))["email"] == EMAIL
    assert (await portal.get(new, headers=PAGE)).status == 410
    assert "now ada@new.example" in await (await fill(portal, old)).text()
    assert (await person(town.parts, "ada@new.example"))["id"] == town.user.id
    await until(lambda: "was changed" in letters(town.parts)[-1][0])
    assert (await log_in(portal, "ada@new.example")).status == 200
    assert "email.changed" in await actions(town.parts)


async def test_both_halves_at_once_change_it_once(portal: Client, town: Town) -> None:
    old, new = await both_links(portal, town, "ada@new.example")
    texts = await asyncio.gather(*(fill(portal, link) for link in (old, new)))
    assert sorted(answer.status for answer in texts) == [200, 200]
    assert (await person(town.parts, "ada@new.example"))["id"] == town.user.id


async def test_an_address_of_somebody_else_is_not_taken(portal: Client, town: Town) -> None:
    """Whether there is such an account is told to whoever owns the address alone."""
    await town.add("bob@example.com")
    old, new = await both_links(portal, town, "BOB@example.com".lower())
    assert (await fill(portal, old)).status == 200
    assert (await fill(portal, new)).status == 409
    assert (await person(town.parts))["id"] == town.user.id
    for wrong in ("nonsense", "a@b@c", "", "a@b\r\nBcc: c@d"):
        assert (await fill(portal, "/account/email", "/account/email", email=wrong)).status in (422, 429)


# --- data -------------------------------------------------------------------------------------------------------------


async def test_all_about_a_person_can_be_taken_along(portal: Client, town: Town) -> None:
    await log_in(portal)
    grant = {"grant_type": "password", "email": EMAIL, "password": PASSWORD, "client_id": "desk", "scope": "transcribe"}
    assert (await portal.post("/auth/token", data=grant)).status == 200
    await PostgresTrustedBrowsers(town.parts.pool, town.parts.trail).add(
        town.user.id, EMAIL, b"d" * 32, "Firefox", timedelta(days=1)
    )
    answer = await portal.get("/account/data/export.json", headers=PAGE)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    document = await answer.json()
    assert document["person"]["email"] == EMAIL
    assert [place["slug"] for place in document["memberships"]] == ["acme"]
    assert len(document["log_ins"]) == 1
    assert [(each["client"], each["scopes"]) for each in document["programs"]] == [("desk", ["transcribe"])]
    assert [each["browser"] for each in document["trusted_browsers"]] == ["Firefox"]
    assert "hash" not in str(document)


async def test_invitations_forget_a_deleted_person(portal: Client, town: Town) -> None:
    """Those that it took, and those that are over; one that is open waits for whoever has the address."""
    book, tenant = PostgresInvitations(town.parts.pool, town.parts.trail), town.tenant.id
    address = "eve@example.com"
    await book.revoke(tenant, (await book.create(tenant, address, Role.MEMBER, b"r" * 32)).id)
    await book.create(tenant, address, Role.MEMBER, b"t" * 32)
    _, taker = await book.accept(b"t" * 32, name="Eve", password_hash="$x")
    other = await town.directory.create_tenant("other", "Other")
    await book.create(other.id, address, Role.MEMBER, b"o" * 32)
    await PostgresPeople(town.parts.pool, town.parts.trail).erase(taker)
    assert {one.email for one in await book.page(tenant, 10)} == {f"{taker}@deleted.invalid"}
    assert [one.email for one in await book.page(other.id, 10)] == [address]


async def token_for(portal: Client, agent: str) -> dict[str, str]:
    """A program's log-in with the password."""
    form = {"grant_type": "password", "email": EMAIL, "password": PASSWORD}
    answer = await portal.post("/auth/token", data=form, headers={"User-Agent": agent, "X-Client-IP": "192.0.2.7"})
    return await answer.json()


async def test_programs_are_listed_and_signed_out_one_by_one(portal: Client, town: Town) -> None:
    """With their access tokens, and by nobody else."""
    first, second = await token_for(portal, "curl/8.5"), await token_for(portal, "<b>Robot</b>")
    await log_in(portal)
    page = await (await portal.get("/account/sessions", headers=PAGE)).text()
    assert "curl 8</b>" in page
    assert "&lt;b&gt;Robot&lt;/b&gt;</b>" in page
    assert page.count("Acme · 192.0.2.7") == 2
    (family,) = re.findall(r'value="(fam_\w+)">\s*<button class="small" aria-label="Sign out curl 8', page)
    await town.add("eve@example.com")
    await log_in(portal, "eve@example.com")
    answer = await fill(portal, "/account/sessions", "/account/sessions", which=family)
    assert answer.status == 404
    await log_in(portal)
    answer = await fill(portal, "/account/sessions", "/account/sessions", which=family)
    assert answer.status == 303
    bearers = portal.server.app[OAUTH].tokens
    ended = [
        bearers.state.is_revoked(await bearers.bearers.examine(one["access_token"].encode())) for one in (first, second)
    ]
    assert ended == [True, False]
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert (await portal.post("/auth/token", data=form)).status == 400
    rows = await town.parts.pool.read(
        "SELECT actor_id FROM platform.audit_entries WHERE action = 'refresh_family.revoked' AND target = $1", family
    )
    assert [row["actor_id"] for row in rows] == [town.user.id]


async def test_a_deleted_person_is_forgotten(portal: Client, town: Town, parts: Parts) -> None:
    """Sessions and keys end, the address is free again, and whoever takes it gets nothing of the old one (T-07)."""
    await town.add("boss@example.com", Role.OWNER)
    await log_in(portal)
    secret = cookie(portal)
    assert (await fill(portal, "/account/data", "/account/data/delete", email="wrong@example.com")).status == 422
    answer = await fill(portal, "/account/data", "/account/data/delete", email=EMAIL)
    assert answer.status == 200
    assert await status(portal, "/account", secret) == 303
    assert (await log_in(portal)).status == 401
    (row,) = await parts.pool.read("SELECT * FROM platform.users WHERE id = $1", town.user.id)
    assert (row["name"], row["password_hash"], row["status"]) == ("", None, "deleted")
    assert EMAIL not in str(dict(row))
    again = await town.add(EMAIL)
    assert again.id != town.user.id
    assert (await log_in(portal)).status == 200


async def test_the_last_owner_stays(portal: Client, town: Town) -> None:
    """A tenant with members keeps somebody who can run it."""
    await town.add("bob@example.com")
    await log_in(portal)
    answer = await fill(portal, "/account/data", "/account/data/delete", email=EMAIL)
    assert answer.status == 409
    assert await status(portal, "/account") == 200


@pytest.mark.parametrize(
    "path",
    ["/account", "/account/password", "/account/sessions", "/account/tenant", "/account/data/delete", "/account/email",
     "/account/second-factor", "/account/second-factor/remove", "/account/recovery-codes", "/account/confirm"],
)  # fmt: skip
async def test_no_form_is_taken_from_another_site(portal: Client, town: Town, path: str) -> None:
    """C-01: token missing, of another browser, in the query; cross-site though the token is right; GET for POST."""
    await log_in(portal)
    page = await (await portal.get("/account", headers=PAGE)).text()
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    before = await person(town.parts)
    plain = {"Accept": "text/html", **SAME_ORIGIN}
    assert (await portal.post(path, data={"email": EMAIL}, headers=plain)).status == 403
    assert (await portal.post(f"{path}?csrf={token}", data={"email": EMAIL}, headers=plain)).status == 403
    assert (await portal.post(path, data={"csrf": token[::-1], "email": EMAIL}, headers=plain)).status == 403
    evil = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    assert (await portal.post(path, data={"csrf": token, "email": EMAIL}, headers=evil)).status == 403
    assert await person(town.parts) == before
