"""``gateway audit``."""

import asyncio
import json

import pytest

from gateway.cli import audit
from gateway.configuration.secrets import derived
from policies.audit import SYSTEM, Actor, ActorKind, Change
from storage.postgres.audit import PURPOSE, AuditTrail
from storage.postgres.pool import Pool
from tests.gateway.cli.conftest import SECRET, Operator


def test_list_shows_who_did_what(acme: Operator) -> None:
    acme.run("key", "create", "--tenant", "acme", "--name", "ci")
    entries = json.loads(acme.run("audit", "list", "--tenant", "acme", "--action", "key", "--json").stdout)
    (entry,) = entries
    assert entry["action"] == "key.created"
    assert entry["target_name"] == "ci"
    assert entry["actor"]["kind"] == "operator"
    assert entry["actor"]["name"]
    _, row = acme.table("audit", "list", "--tenant", "acme", "--action", "key")
    assert "enabled=yes; expires_at=-;" in row[5]
    assert row[5].endswith("name=ci; networks=-; routes=-; scopes=transcribe; service_account=-; user=-")


def test_list_calls_members_and_keys_by_their_names_and_others_by_their_ids(acme: Operator) -> None:
    """What is done on pages and by the API is recorded by id; who has left is known by nothing else.

    So it is in the platform's own chain, where whoever acts may be of any tenant.
    """
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    [ann] = acme.json("user", "list", "--tenant", "acme")
    key = acme.json("key", "create", "--tenant", "acme", "--name", "robot")
    [acme_here] = acme.json("tenant", "list")

    async def act() -> None:
        pool = Pool(acme.environment["GATEWAY_DATABASE_URL"])
        trail = AuditTrail(lambda: derived(SECRET, PURPOSE), SYSTEM)
        for kind, actor in ((ActorKind.USER, ann["id"]), (ActorKind.API_KEY, key["id"]), (ActorKind.USER, "usr_gone")):
            for tenant_id in (acme_here["id"], ""):
                async with pool.operator() as connection:
                    change = Change(tenant_id=tenant_id, action="webhook.tested", target="here")
                    await trail.by(Actor(kind=kind, id=actor)).record(connection, change)
        await pool.close()

    asyncio.run(act())
    for chain in (("--tenant", "acme"), ()):
        _, *rows = acme.table("audit", "list", *chain, "--action", "webhook")
        assert [row[1] for row in rows] == ["usr_gone", "robot", "ann@example.com"], chain


def test_verify_says_that_every_chain_is_intact(acme: Operator) -> None:
    chains = json.loads(acme.run("audit", "verify", "--json").stdout)
    assert [(chain["tenant"], chain["intact"]) for chain in chains] == [("acme", True)]
    assert "intact" in acme.run("audit", "verify", "--tenant", "acme").stdout


def test_verify_fails_under_another_secret(acme: Operator) -> None:
    """A chain that this gateway did not write is not intact, and the exit status says so."""
    acme.environment["GATEWAY_SECRET_KEY"] = "another secret, thirty-two or more letters long"
    result = acme.run("audit", "verify", status=1)
    assert "was exchanged" in result.stdout


def test_an_export_is_the_whole_chain_oldest_first(acme: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PAGE", 2)
    for name in ("a", "b", "c", "d"):
        acme.run("key", "create", "--tenant", "acme", "--name", name)
    lines = [json.loads(line) for line in acme.run("audit", "export", "--tenant", "acme").stdout.splitlines()]
    assert [each["sequence"] for each in lines] == [1, 2, 3, 4, 5]
    assert lines[::-1] == acme.json("audit", "list", "--tenant", "acme")


def test_prune_asks_first(acme: Operator) -> None:
    acme.run("audit", "prune", "--tenant", "acme", "--before", "0s", status=1)
    assert json.loads(acme.run("audit", "verify", "--json").stdout)[0]["entries"] > 0
    acme.run("audit", "prune", "--tenant", "acme", "--before", "0s", "--yes")
    (chain,) = json.loads(acme.run("audit", "verify", "--json").stdout)
    assert (chain["entries"], chain["intact"]) == (0, True)
