"""`gateway key`: what is printed is what the gateway will accept, and nothing else ever shows it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.configuration.secrets import derived
from gateway.identity.digests import digest
from policies.audit import SYSTEM
from policies.http.credentials import is_well_formed
from policies.identity.principals import Principal, Standing
from storage.ports import Invalidation
from storage.postgres.audit import AuditTrail
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.pool import Pool
from tests.gateway.cli.conftest import SECRET, Operator
from tests.gateway.cli.listening import invalidations


def identified(operator: Operator, key: str) -> Principal | None:
    """Whom a gateway with the operator's settings takes the key for."""

    async def ask() -> Principal | None:
        url = operator.environment["GATEWAY_DATABASE_URL"]
        pepper = derived(SECRET, "api-keys")
        pool = Pool(url)
        try:
            return await PostgresKeyRegistry(pool, AuditTrail(bytes, SYSTEM)).identify_key(digest(pepper, key.encode()))
        finally:
            await pool.close()

    return asyncio.run(ask())


def test_create_prints_the_key_alone_on_standard_output(acme: Operator) -> None:
    result = acme.run("key", "create", "--tenant", "acme", "--name", "ci")
    (key,) = result.stdout.splitlines()
    assert key.startswith("thk_live_")
    assert is_well_formed(key.encode())
    assert "not shown again" in result.stderr
    assert key not in result.stderr


def test_a_scope_that_opens_nothing_is_refused_with_those_that_there_are(acme: Operator) -> None:
    """A slip of the pen, most likely. What services behind the gateway read is named by a setting."""
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    for words in (
        ("key", "create", "--tenant", "acme", "--name", "two"),
        ("key", "set", made["id"]),
        ("service-account", "create", "--tenant", "acme", "--name", "w"),
        ("tenant", "onboard", "new", "--owner", "a@b.example", "--key", "first"),
    ):
        said = acme.run(*words, "--scope", "transcribe", "--scope", "usages:read", status=2).stderr
        assert "no scope 'usages:read'; there are audit:read," in said
    assert len(acme.json("key", "list", "--tenant", "acme")) == 1
    acme.environment["GATEWAY_OWN_SCOPES"] = "x, usages:read"
    acme.run("key", "set", made["id"], "--scope", "usages:read")


def test_the_gateway_knows_the_key_that_was_printed(acme: Operator) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    principal = identified(acme, made["key"])
    assert (principal.key_id, principal.tenant_slug) == (made["id"], "acme")
    assert principal.standing is Standing.GOOD
    assert principal.scopes == {"transcribe"}
    assert principal.expires_ms is None


def test_create_tells_all_about_the_key_as_one_object(acme: Operator) -> None:
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    made = acme.json(
        "key", "create", "--tenant", "acme", "--name", "night shift", "--scope", "transcribe", "--scope", "usage:read",
        "--expires", "2999-01-01", "--user", "Ann@Example.com", "--test",
    )  # fmt: skip
    assert made == {
        "id": made["id"],
        "key": made["key"],
        "name": "night shift",
        "tenant": "acme",
        "scopes": ["transcribe", "usage:read"],
        "expires_at": "2999-01-01T00:00:00Z",
        "last4": made["key"][-4:],
    }
    assert made["key"].startswith("thk_test_")
    assert identified(acme, made["key"]).user_id == acme.json("user", "list", "--tenant", "acme")[0]["id"]


def test_a_key_is_not_given_more_than_its_owner_holds(acme: Operator) -> None:
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    wish = ("key", "create", "--tenant", "acme", "--name", "x", "--user", "ann@example.com")
    assert "does not hold keys:write" in acme.run(*wish, "--scope", "keys:write", status=1).stderr
    made = acme.json(*wish)
    assert "does not hold keys:write" in acme.run("key", "set", made["id"], "--scope", "keys:write", status=1).stderr
    assert identified(acme, made["key"]).scopes == {"transcribe"}


def test_a_service_accounts_key_is_listed_with_it_and_ends_with_it(acme: Operator) -> None:
    account = acme.json("service-account", "create", "--tenant", "acme", "--name", "w")["id"]
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    wish = ("key", "create", "--tenant", "acme", "--name", "k")
    ours = acme.json(*wish, "--service-account", account)
    hers = acme.json(*wish, "--user", "ann@example.com")
    both = acme.run(*wish, "--service-account", account, "--user", "ann@example.com", status=2)
    assert "name one of the two" in both.stderr
    assert "no service account 'svc_x'" in acme.run(*wish, "--service-account", "svc_x", status=1).stderr
    listing = ("key", "list", "--tenant", "acme")
    for owner, key in ((("--service-account", account), ours), (("--user", "ann@example.com"), hers)):
        _, row = acme.table(*listing, *owner)
        assert (row[0], row[4]) == (key["id"], owner[1])
    principal = identified(acme, ours["key"])
    assert (principal.user_id, principal.roles, principal.standing) == (account, ("service",), Standing.GOOD)
    acme.run("service-account", "disable", account, "--yes")
    (shown,) = acme.json(*listing, "--service-account", account)
    assert (shown["service_account"], shown["status"]) == (account, "revoked")
    assert identified(acme, ours["key"]).standing is Standing.REVOKED
    assert "its service account is disabled, and stays so" in acme.run("key", "enable", ours["id"]).stderr


def test_list_shows_every_key_and_never_the_secret(acme: Operator) -> None:
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    first = acme.json("key", "create", "--tenant", "acme", "--name", "first", "--user", "ann@example.com")
    second = acme.json("key", "create", "--tenant", "acme", "--name", "second", "--expires", "90d")
    acme.run("key", "revoke", first["id"])
    headings, *rows = acme.table("key", "list", "--tenant", "acme")
    assert headings == ["ID", "NAME", "KEY", "SCOPES", "OWNER", "STATUS", "CREATED", "EXPIRES", "LAST USED"]
    assert [(row[0], row[1], row[2], row[4], row[5]) for row in rows] == [
        (second["id"], "second", f"…{second['last4']}", "-", "active"),
        (first["id"], "first", f"…{first['last4']}", "ann@example.com", "revoked"),
    ]
    printed = acme.run("key", "list", "--tenant", "acme", "--json").output
    assert first["key"] not in printed
    listed = acme.json("key", "list", "--tenant", "acme")
    assert [(key["id"], key["status"], key["user"]) for key in listed] == [
        (second["id"], "active", None),
        (first["id"], "revoked", "ann@example.com"),
    ]
    ends = datetime.fromisoformat(listed[0]["expires_at"])
    assert timedelta(days=89, hours=23) < ends - datetime.now(UTC) <= timedelta(days=90)


def test_a_key_is_listed_with_the_reason_why_it_is_refused(acme: Operator) -> None:
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci", "--user", "ann@example.com")

    def status() -> str:
        return acme.json("key", "list", "--tenant", "acme")[0]["status"]

    acme.run("user", "disable", "--tenant", "acme", "--email", "ann@example.com")
    assert status() == identified(acme, made["key"]).standing == "user_disabled"
    acme.run("tenant", "suspend", "acme")
    assert status() == identified(acme, made["key"]).standing == "tenant_suspended"
    ended = acme.json("key", "revoke", made["id"])
    assert (ended["status"], ended["user"]) == ("revoked", "ann@example.com")
    assert status() == identified(acme, made["key"]).standing == "revoked"


def test_rotate_leaves_the_old_key_its_overlap(acme: Operator) -> None:
    old = acme.json(
        "key", "create", "--tenant", "acme", "--name", "ci", "--scope", "audit:read", "--scope", "usage:read"
    )
    result = acme.run("key", "rotate", old["id"], "--overlap", "2h", "--json")
    new = acme.json("key", "list", "--tenant", "acme")[0]
    assert "works until" in result.stderr
    assert (new["name"], new["scopes"], new["expires_at"]) == ("ci", ["audit:read", "usage:read"], None)
    left = identified(acme, old["key"]).expires_ms / 1000 - datetime.now(UTC).timestamp()
    assert 7_100 < left <= 7_200


def test_rotate_prints_the_new_key(acme: Operator) -> None:
    old = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    key = acme.run("key", "rotate", old["id"]).stdout.strip()
    assert key != old["key"]
    assert identified(acme, key).standing is Standing.GOOD


def test_rotate_without_overlap_ends_the_old_key_at_once(acme: Operator) -> None:
    old = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    acme.run("key", "rotate", old["id"], "--overlap", "0s")
    assert identified(acme, old["key"]).expires_ms / 1000 <= datetime.now(UTC).timestamp()
    assert [key["status"] for key in acme.json("key", "list", "--tenant", "acme")] == ["active", "expired"]


def test_rotating_twice_says_what_to_rotate_instead(acme: Operator) -> None:
    old = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    acme.run("key", "rotate", old["id"])
    assert "rotate its successor" in acme.run("key", "rotate", old["id"], status=1).stderr


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_gateways_are_told_which_key_to_forget(acme: Operator, change: str) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    tenant_id = acme.json("tenant", "list")[0]["id"]
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        acme.run("key", change, made["id"])
        assert heard.get(timeout=30) == Invalidation(tenant_id=tenant_id, key_id=made["id"])


def test_revoke_is_final_and_may_be_said_twice(acme: Operator) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    assert acme.run("key", "revoke", made["id"]).stdout == f"Key {made['id']} (ci) of tenant acme is revoked.\n"
    assert identified(acme, made["key"]).standing is Standing.REVOKED
    again = acme.json("key", "revoke", made["id"])
    assert (again["status"], again["tenant"]) == ("revoked", "acme")
    assert "stays so" in acme.run("key", "enable", made["id"]).stderr


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://127.0.0.1:http", "unix:///nowhere/at/all"])
def test_with_redis_down_the_change_is_made_and_the_delay_is_said(acme: Operator, url: str) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    acme.environment["GATEWAY_REDIS_URL"] = url
    result = acme.run("key", "revoke", made["id"])
    assert "within 15 seconds" in result.stderr
    assert identified(acme, made["key"]).standing is Standing.REVOKED


def test_without_a_redis_url_the_change_is_made_and_the_delay_is_said(acme: Operator) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "ci")
    del acme.environment["GATEWAY_REDIS_URL"]
    assert "GATEWAY_REDIS_URL is not set" in acme.run("key", "revoke", made["id"]).stderr


def test_no_secret_no_key(acme: Operator) -> None:
    """A key that is made with a secret of nobody's would be refused by every gateway."""
    del acme.environment["GATEWAY_SECRET_KEY"]
    assert "GATEWAY_SECRET_KEY" in acme.run("key", "create", "--tenant", "acme", "--name", "ci", status=1).stderr
    assert acme.json("key", "list", "--tenant", "acme") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tenant", "nobody", "--name", "x"), "There is no tenant 'nobody'"),
        (("--tenant", "acme", "--name", "x", "--user", "x@example.com"), "no member x@example.com"),
    ],
)
def test_what_is_not_there_is_named(acme: Operator, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in acme.run("key", "create", *words, status=1).stderr


@pytest.mark.parametrize("key_id", ["key_0123456789abcdefghjk", "nonsense", "../../etc"])
@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_an_unknown_key_is_a_failure(acme: Operator, change: str, key_id: str) -> None:
    said = acme.run("key", change, key_id, status=1).stderr
    assert f"There is no key {key_id!r}. See what there is: gateway key list --tenant SLUG" in said


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--tenant", "acme"),
        ("create", "--name", "x"),
        ("create", "--tenant", "Acme", "--name", "x"),
        ("create", "--tenant", "acme", "--name", " "),
        ("create", "--tenant", "acme", "--name", "x", "--scope", "two words"),
        ("create", "--tenant", "acme", "--name", "x", "--expires", "yesterday"),
        ("create", "--tenant", "acme", "--name", "x", "--expires", "2020-01-01"),
        ("create", "--tenant", "acme", "--name", "x", "--expires", "0d"),
        ("create", "--tenant", "acme", "--name", "x", "--expires", "999999999w"),
        ("create", "--tenant", "acme", "--name", "x", "--user", "not-an-address"),
        ("list",),
        ("rotate",),
        ("rotate", "key_0123456789abcdefghjk", "--overlap", "soon"),
        ("revoke",),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("key", *words, status=2).stdout == ""
