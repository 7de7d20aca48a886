"""`config/gateway.example.toml` names every setting, with its default and its sentence, and nothing else."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration.issuers import IssuerSettings
from gateway.configuration.oidc import OidcSettings
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid, load
from gateway.configuration.upstreams import UpstreamSettings
from gateway.shipped import shipped

EXAMPLE = shipped("gateway.example.toml")
SETTING = re.compile(r"#([a-z0-9_]+) = ")
TABLE = re.compile(r"#\[([a-z_]+)\.[a-z_]+\]")
TABLES = {"upstreams": UpstreamSettings, "issuers": IssuerSettings, "oidc": OidcSettings}
NESTED = [(table, name) for table, settings in TABLES.items() for name in settings.model_fields]


def blocks(of: str = "") -> dict[str, tuple[str, str]]:
    """For each setting in the file, or in a table of it: the comment above it, and its own line without the '#'.

    The comment as one line. A table is a setting too, with its heading for a line.
    """
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        heading = TABLE.match(line)
        table = heading[1] if heading else table
        match = SETTING.match(line)
        name = match[1] if match and table == of else heading[1] if heading and not of else ""
        if name:
            assert name not in found, f"{name} stands there twice"
            found[name] = (" ".join(comment), line.removeprefix("#"))
        comment = [*comment, line.removeprefix("# ")] if line.startswith("# ") else []
    return found


def loaded(values: Mapping[str, Any], tmp_path: Path) -> Settings:
    """The settings of a file with these lines."""
    config = tmp_path / "gateway.toml"
    config.write_text("\n".join(line for _, line in values.values()))
    return load({}, config, {})


def test_every_setting_is_there_and_no_other() -> None:
    assert sorted(blocks()) == sorted(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_its_sentence_is_the_settings_own(name: str) -> None:
    assert blocks()[name][0] == Settings.model_fields[name].description


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_of_a_table_is_there_and_no_other(table: str) -> None:
    assert list(blocks(table)) == list(TABLES[table].model_fields)


@pytest.mark.parametrize(("table", "name"), NESTED)
def test_a_table_has_its_sentences_and_its_defaults(table: str, name: str) -> None:
    sentence, line = blocks(table)[name]
    field = TABLES[table].model_fields[name]
    assert sentence == field.description
    if field.default not in (None, (), ""):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert tomllib.loads(line)[name] == default


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, f in Settings.model_fields.items()
        if f.default not in (None, ...) and not f.default_factory and n not in TABLES
    ],
)
def test_its_value_is_the_default(name: str) -> None:
    default = Settings.model_fields[name].default
    assert tomllib.loads(blocks()[name][1])[name] == (list(default) if isinstance(default, tuple) else default)


def test_it_changes_nothing_as_it_is(tmp_path: Path) -> None:
    assert tomllib.loads(EXAMPLE.read_text()) == {}


def test_all_of_it_can_be_uncommented(tmp_path: Path) -> None:
    """All but the placeholder of the secret, which would be everybody's."""
    values = blocks()
    for table in TABLES:
        heading = values.pop(table)
        values |= {table: heading} | {f"{table}.{name}": block for name, block in blocks(table).items()}
    with pytest.raises(SettingsInvalid) as refused:
        loaded(values, tmp_path)
    assert ["secret_key" in fault for fault in refused.value.faults] == [True]
    del values["secret_key"]
    settings = loaded(values, tmp_path)
    assert settings.every_upstream()["whisper"].origins
    assert settings.state_dir == Path("/var/lib/tahoe-gateway")
