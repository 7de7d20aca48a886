"""`config/gateway.example.toml` names every setting, with its default and its sentence, and nothing else."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, SettingsInvalid, load
from gateway.shipped import shipped

EXAMPLE = shipped("gateway.example.toml")
SETTING = re.compile(r"#([a-z_]+) = ")


def blocks() -> dict[str, tuple[str, str]]:
    """For each setting in the file: the comment above it, as one line, and its own line without the '#'."""
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        if match := SETTING.match(line):
            assert match[1] not in found, f"{match[1]} stands there twice"
            found[match[1]] = (" ".join(comment), line.removeprefix("#"))
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


@pytest.mark.parametrize(
    "name", [n for n, f in Settings.model_fields.items() if f.default not in (None, ...) and not f.default_factory]
)
def test_its_value_is_the_default(name: str) -> None:
    default = Settings.model_fields[name].default
    assert tomllib.loads(blocks()[name][1])[name] == (list(default) if isinstance(default, tuple) else default)


def test_it_changes_nothing_as_it_is(tmp_path: Path) -> None:
    assert tomllib.loads(EXAMPLE.read_text()) == {}


def test_all_of_it_can_be_uncommented(tmp_path: Path) -> None:
    """All but the placeholder of the secret, which would be everybody's."""
    values = blocks()
    with pytest.raises(SettingsInvalid) as refused:
        loaded(values, tmp_path)
    assert ["secret_key" in fault for fault in refused.value.faults] == [True]
    del values["secret_key"]
    settings = loaded(values, tmp_path)
    assert settings.state_dir == Path("/var/lib/tahoe-gateway")
