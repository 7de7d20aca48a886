"""Settings of other issuers: what could let in more than was meant is a fault."""

from pathlib import Path
from typing import Any

import pytest

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import SettingsInvalid, load

GOOD: dict[str, Any] = {
    "issuer": "https://login.example.com/",
    "jwks_url": "https://login.example.com/jwks",
    "audience": "gateway",
    "tenant": "acme",
}


def faults(tmp_path: Path, **changes: Any) -> list[str]:
    """What is said against a file with this one issuer."""
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    config = tmp_path / "gateway.toml"
    config.write_text("[issuers.corp]\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items()))
    try:
        load({"public_url": "https://gw.example.com"}, config, {})
    except SettingsInvalid as error:
        return error.faults
    return []


def test_one_that_says_all_that_is_needed_is_fine(tmp_path: Path) -> None:
    assert faults(tmp_path) == []
    assert faults(tmp_path, jwks_url="http://127.0.0.1:8080/jwks") == []
    assert faults(tmp_path, tenant=None, tenant_claim="org", tenants=["o1=acme"], roles=["a=admin"]) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": None}, "issuer is missing"),
        ({"audience": ""}, "audience is missing"),
        ({"jwks_url": "http://login.example.com/jwks"}, "https"),
        ({"jwks_url": "https://user:secret@login.example.com/jwks"}, "https"),
        ({"jwks_url": "file:///etc/passwd"}, "https"),
        ({"algorithms": ["HS256"]}, "some of"),
        ({"algorithms": []}, "some of"),
        ({"tenant": None}, "one of them"),
        ({"tenant_claim": "org"}, "one of them"),
        ({"tenant": "No Slug"}, "slug"),
        ({"tenants": ["o1"]}, "pairs"),
        ({"scopes": ["a=b", "a=c"]}, "pairs"),
        ({"roles": ["a=root"]}, "roles are"),
        ({"scopes": ["a=b c"]}, "scope"),
        ({"issuer": "https://gw.example.com"}, "this gateway itself"),
        ({"colour": "blue"}, "no such setting"),
    ],
)
def test_what_is_amiss_is_said(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (fault,) = faults(tmp_path, **changes)
    assert said in fault


def test_workers_get_them(tmp_path: Path) -> None:
    environ = {f"GATEWAY_ISSUERS__CORP__{name.upper()}": value for name, value in GOOD.items()}
    settings = load({"state_dir": tmp_path}, None, environ | {"GATEWAY_ISSUERS__CORP__SCOPES": "a=b,c=d"})
    again = Blueprint.from_message(Blueprint(settings, "", "", "s").to_message()).settings
    assert again.issuers == settings.issuers
    assert again.issuers["corp"].meaning("corp").scopes == {"a": "b", "c": "d"}
