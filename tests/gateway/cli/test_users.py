"""`gateway user`: people are made and shut out, and a password is never seen."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from gateway.configuration.secrets import derived
from gateway.identity import passwords
from gateway.identity.passwords import verify
from storage.ports import Invalidation
from storage.redis.attempts import Bucket, RedisAttempts, account_names, address_names, again_name, code_name
from storage.redis.client import client
from tests.gateway.cli.conftest import SECRET, Operator
from tests.gateway.cli.listening import invalidations

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 10)


def create(operator: Operator, *words: str, tenant: str = "acme", stdin: str | bytes | None = None, status: int = 0):
    return operator.run(
        "user", "create", "--tenant", tenant, "--email", "ann@example.com", *words, stdin=stdin, status=status
    )


def stored_hash(operator: Operator) -> str | None:
    """What the database has instead of the only user's password."""

    async def ask() -> str | None:
        connection = await asyncpg.connect(operator.environment["GATEWAY_DATABASE_URL"])
        try:
            return await connection.fetchval("SELECT password_hash FROM platform.users")
        finally:
            await connection.close()

    return asyncio.run(ask())


def pepper() -> bytes:
    return derived(SECRET, "passwords")


def test_a_person_becomes_a_member(acme: Operator) -> None:
    assert create(acme, "--role", "admin").stdout == "ann@example.com is an admin of tenant acme.\n"
    headings, row = acme.table("user", "list", "--tenant", "acme")
    assert headings == ["EMAIL", "NAME", "ROLE", "STATUS", "CREATED", "ID"]
    assert row[:4] == ["ann@example.com", "ann", "admin", "active"]
    assert stored_hash(acme) is None


def test_create_as_json_is_the_member(acme: Operator) -> None:
    made = acme.json("user", "create", "--tenant", "acme", "--email", "Ann@Example.com", "--name", "Ann")
    assert (made["email"], made["name"], made["role"], made["tenant"]) == ("ann@example.com", "Ann", "member", "acme")
    assert acme.json("user", "list", "--tenant", "acme") == [made]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_password_is_what_came_before_the_line_end(acme: Operator, end: str) -> None:
    result = create(acme, "--password-stdin", stdin=PASSWORD + end)
    assert PASSWORD not in result.output
    assert verify(PASSWORD, stored_hash(acme), pepper())


@pytest.mark.parametrize(
    ("received", "sentence"),
    [
        (b"", "at least 15 characters"),
        (b"fourteen chars\n", "at least 15 characters, this one has 14"),
        (b"x" * 1025, "at most 1024 characters"),
        ("\N{GRINNING FACE}".encode() * 5000, "longer than a password can be"),
        (b"one line of text\nand another", "one line"),
        (b"\xff" * 20, "not UTF-8"),
    ],
    ids=["nothing", "short", "long", "longer than is read", "two lines", "bytes"],
)
def test_an_unfit_password_makes_nobody(acme: Operator, received: bytes, sentence: str) -> None:
    assert sentence in create(acme, "--password-stdin", stdin=received, status=2).stderr
    assert acme.json("user", "list", "--tenant", "acme") == []


def test_a_person_whom_another_tenant_knows_keeps_everything(acme: Operator) -> None:
    create(acme, "--password-stdin", stdin=PASSWORD)
    acme.run("tenant", "create", "other")
    result = create(acme, "--name", "Mallory", "--password-stdin", tenant="other", stdin="another good password")
    assert "was known already and keeps name, password and status" in result.stderr
    assert acme.json("user", "list", "--tenant", "other")[0]["name"] == "ann"
    assert verify(PASSWORD, stored_hash(acme), pepper())


def test_a_member_is_made_once(acme: Operator) -> None:
    create(acme)
    assert "is a member of this tenant already" in create(acme, status=1).stderr


@pytest.mark.parametrize(("change", "status"), [("disable", "disabled"), ("enable", "active")])
def test_a_change_of_status_is_stored_and_told_to_all_tenants(acme: Operator, change: str, status: str) -> None:
    """A person's keys may be in other tenants, so everything is forgotten."""
    create(acme)
    whom = ("--tenant", "acme", "--email", "ann@example.com")
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        assert acme.run("user", change, *whom).stdout.startswith(f"ann@example.com is {status}")
        assert heard.get(timeout=30) == Invalidation()
    assert acme.json("user", change, *whom)["status"] == status
    assert acme.json("user", "list", "--tenant", "acme")[0]["status"] == status


@pytest.mark.parametrize("change", ["disable", "enable"])
def test_an_unknown_person_is_a_failure(acme: Operator, change: str) -> None:
    refused = acme.run("user", change, "--tenant", "acme", "--email", "x@example.com", status=1)
    assert "No member of this tenant" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--tenant", "acme"),
        ("create", "--email", "ann@example.com", "--role", "admin"),
        ("create", "--tenant", "acme", "--email", "ann"),
        ("create", "--tenant", "acme", "--email", "a@evil@corp"),
        ("create", "--tenant", "acme", "--email", "ann@example.com", "--role", "emperor"),
        ("create", "--tenant", "acme", "--email", "ann@example.com", "--password", PASSWORD),
        ("list",),
        ("disable", "--tenant", "acme"),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("user", *words, status=2).stdout == ""


def test_an_invitation_without_mail_prints_its_link_once(acme: Operator) -> None:
    """From the public address; with mail it goes there and is not printed."""
    made = acme.json("user", "invite", "--tenant", "acme", "--email", "Bob@example.com", "--role", "admin")
    assert made["email"] == "bob@example.com"
    assert "/auth/invite/thk_invite_" in made["link"]
    assert "invitation.created" in acme.run("audit", "list", "--tenant", "acme").stdout


def test_a_member_is_not_invited_again(acme: Operator) -> None:
    create(acme)
    said = acme.run("user", "invite", "--tenant", "acme", "--email", "ann@example.com", status=1)
    assert "member already" in said.stderr


def test_tries_are_forgotten_on_request(acme: Operator) -> None:
    assert acme.json("user", "unban", "--email", "ann@example.com") == {"forgotten": False}
    assert acme.run("user", "unban", "--address", "192.0.2.1").stdout.startswith("There were no tries")
    acme.run("user", "unban", status=2)


async def _try(redis_url: str, *names: str) -> None:
    redis = client(redis_url)
    await RedisAttempts(redis).begin([Bucket(name, 1) for name in names])
    await redis.aclose()


def test_who_is_shut_out_at_the_second_factor_is_let_in_too(acme: Operator, redis_url: str) -> None:
    """A person, whatever was tried too often; and the audit trail says that somebody did it."""
    made = acme.json("user", "create", "--tenant", "acme", "--email", "ann@example.com")["id"]
    for name in (*account_names("ann@example.com"), code_name(made), again_name(made)):
        asyncio.run(_try(redis_url, name))
        assert acme.json("user", "unban", "--email", "Ann@example.com") == {"forgotten": True}
    asyncio.run(_try(redis_url, *address_names("192.0.2.1")))
    assert acme.json("user", "unban", "--address", "192.0.2.1") == {"forgotten": True}
    address, *accounts = acme.json("audit", "list", "--action", "login.unbanned")
    assert (address["after"], [each["target"] for each in accounts]) == ({"address": "192.0.2.1"}, [made] * 3)


def test_a_person_is_edited_and_forgotten(acme: Operator) -> None:
    """In every tenant; the address is free then."""
    made = acme.json("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    changes = ("--name", "Ann", "--language", "de", "--time-zone", "Europe/Berlin")
    edited = acme.json("user", "edit", "--email", "Ann@example.com", *changes)
    assert edited == {"id": made["id"], "email": "ann@example.com", "name": "Ann", "language": "de",
                      "time_zone": "Europe/Berlin"}  # fmt: skip
    acme.run("user", "edit", "--email", "ann@example.com", "--time-zone", "Mars/Olympus", status=2)
    assert acme.json("user", "erase", "--email", "ann@example.com", "--yes") == {"id": made["id"]}
    assert acme.json("user", "list", "--tenant", "acme") == []
    assert "Nobody has" in acme.run("user", "erase", "--email", "ann@example.com", "--yes", status=1).stderr


def test_a_person_in_no_tenant_gets_a_link_to_choose_a_password_once(acme: Operator) -> None:
    made = acme.json("user", "create", "--email", "eve@example.com")
    assert (made["email"], made["name"], "/auth/reset/" in made["link"]) == ("eve@example.com", "eve", True)
    assert "has an account already" in acme.run("user", "create", "--email", "eve@example.com", status=1).stderr
    assert "say --tenant" in acme.run("user", "create", "--email", "x@example.com", "--role", "admin", status=2).stderr
    again = acme.run("user", "create", "--tenant", "acme", "--email", "eve@example.com")
    assert "was known already" in again.stderr


def test_a_member_without_a_password_gets_a_link_to_choose_one(acme: Operator) -> None:
    """As long as an invitation works; a new one in its place, and shorter where there is a password already."""
    assert "gateway user link --email ann@example.com" in create(acme).stderr
    first = acme.json("user", "link", "--email", "Ann@example.com")
    assert (first["email"], "/auth/reset/thk_reset_" in first["link"]) == ("ann@example.com", True)
    days_left = (datetime.fromisoformat(first["expires_at"]) - datetime.now(UTC)).days
    assert days_left == 6
    said = acme.run("user", "link", "--email", "ann@example.com")
    assert "/auth/reset/thk_reset_" in said.stdout
    assert first["link"] not in said.stdout
    assert "It was not mailed" in said.stderr
    assert acme.json("audit", "list", "--action", "password.reset_requested")[0]["target_name"] == "ann@example.com"


def test_no_link_is_made_that_would_not_work(acme: Operator) -> None:
    nobody = acme.run("user", "link", "--email", "ann@example.com", status=1).stderr
    assert "Nobody has the e-mail address ann@example.com. See what there is: gateway user list" in nobody
    create(acme)
    acme.run("user", "disable", "--tenant", "acme", "--email", "ann@example.com", "--yes")
    assert "is disabled" in acme.run("user", "link", "--email", "ann@example.com", status=1).stderr


def test_whoever_makes_a_person_it_is_an_event(acme: Operator) -> None:
    acme.json("user", "create", "--email", "eve@example.com")
    create(acme)
    acme.run("tenant", "create", "beta")
    create(acme, tenant="beta")
    entries = acme.json("audit", "list", "--action", "user.created")
    assert sorted(entry["target_name"] for entry in entries) == ["ann@example.com", "eve@example.com"]


def test_with_a_password_there_is_no_link(acme: Operator) -> None:
    words = ("user", "create", "--email", "eve@example.com", "--password-stdin")
    assert acme.run(*words, stdin=PASSWORD).stdout == "eve@example.com has an account.\n"
    assert verify(PASSWORD, stored_hash(acme), pepper())
