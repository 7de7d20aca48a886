"""Wound: settings go on naming a tenant by its slug when it is gone and another one has that (T-07).

Nobody is let into the new tenant by it, so all people of that issuer or provider are refused; whoever checks the
settings is told so, and not left to find out.
"""

from pathlib import Path

import pytest

from tests.gateway.cli.conftest import Operator, operator, state_dir

__all__ = ["operator", "state_dir"]

SETTINGS = """
[issuers.corp]
issuer = "https://corp.example"
jwks_url = "https://corp.example/keys"
audience = "gateway"
tenant_claim = "org"
tenants = ["a=acme", "b=still-there"]

[oidc.google]
issuer = "https://accounts.example"
client_id = "x"
client_secret = "a client secret"
tenant = "acme"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(SETTINGS)
    return path


def test_check_config_names_every_table_that_means_nobody(operator: Operator, settings: Path) -> None:
    for slug in ("acme", "still-there"):
        operator.run("tenant", "create", slug)
    check = ("check-config", "--config", str(settings))
    assert operator.json(*check) == {"ok": True, "faults": [], "warnings": []}
    operator.run("tenant", "delete", "acme", "--grace", "0s", "--yes")
    operator.run("tenant", "purge", "--yes")
    operator.run("tenant", "create", "acme")
    checked = operator.json(*check)
    assert isinstance(checked, dict)
    assert [one.partition(": ")[0] for one in checked["warnings"]] == ["issuers.corp", "oidc.google"]
    assert all("acme was the slug of a tenant that is gone" in one for one in checked["warnings"])


def test_a_database_that_cannot_be_asked_is_no_fault_of_the_settings(operator: Operator, settings: Path) -> None:
    operator.environment["GATEWAY_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    checked = operator.json("check-config", "--config", str(settings))
    assert isinstance(checked, dict)
    (warning,) = checked["warnings"]
    assert checked["ok"]
    assert "acme, still-there" in warning
    assert "cannot be asked" in warning
