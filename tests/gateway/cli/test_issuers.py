"""`gateway issuer`: other issuers are added and ended without a restart, by the rules of the settings."""

from typing import Any

from tests.gateway.cli.conftest import Operator

CORP = ("corp", "--issuer", "https://a.example/", "--jwks-url", "https://a.example/jwks", "--audience", "gw")


def test_one_is_added_stopped_and_removed(operator: Operator) -> None:
    made: Any = operator.json("issuer", "create", *CORP, "--tenant", "acme", "--scope", "asr=transcribe")
    assert (made["name"], made["source"], made["enabled"]) == ("corp", "api", True)
    assert (made["scopes"], made["algorithms"]) == (["asr=transcribe"], ["EdDSA", "ES256", "RS256"])
    assert operator.json("issuer", "list") == [made]
    assert operator.json("issuer", "disable", "corp", "--yes") == made | {"enabled": False}
    assert operator.table("issuer", "list")[1] == ["corp", "https://a.example/", "gw", "disabled", "api"]
    assert operator.json("issuer", "enable", "corp") == made
    assert operator.json("issuer", "remove", "corp", "--yes") == {"name": "corp"}
    assert "There is no issuer 'corp'" in operator.run("issuer", "enable", "corp", status=1).stderr
    entries: Any = operator.json("audit", "list", "--action", "issuer")
    assert [entry["action"] for entry in entries][::-1] == [
        "issuer.created", "issuer.changed", "issuer.changed", "issuer.deleted",
    ]  # fmt: skip


def test_every_fault_is_said(operator: Operator) -> None:
    said = operator.run("issuer", "create", *CORP, "--algorithm", "HS256", "--role", "a=root", status=2).stderr
    assert all(f"{name}: " in said for name in ("algorithms", "roles", "tenant_claim"))
    private = ("corp", "--issuer", "https://a", "--jwks-url", "https://10.0.0.1/", "--audience", "gw", "--tenant", "t")
    assert "not on the public internet" in operator.run("issuer", "create", *private, status=2).stderr


def test_what_is_named_changes_and_the_rest_stays(operator: Operator) -> None:
    made: Any = operator.json("issuer", "create", *CORP, "--tenant", "acme", "--scope", "asr=transcribe")
    words = ("--tenant", "", "--tenant-claim", "org", "--tenant-of", "o1=acme", "--scope", "")
    changed = made | {"tenant": "", "tenant_claim": "org", "tenants": ["o1=acme"], "scopes": []}
    assert operator.json("issuer", "edit", "corp", *words) == changed
    assert operator.json("issuer", "list") == [changed]
    assert "tenant_claim: " in operator.run("issuer", "edit", "corp", "--tenant", "acme", status=2).stderr
    assert "Say what changes" in operator.run("issuer", "edit", "corp", status=2).stderr
    assert operator.json("issuer", "list") == [changed]
