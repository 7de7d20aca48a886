"""Where settings come from, and every fault of them, told as the operator wrote it.

Precedence: command line, environment (``GATEWAY_`` + name, ``__`` for nesting; any of them also as ``…_FILE``), the
TOML file, default. All faults are reported at once, each with the name the operator wrote and what to do about it.
"""

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.configuration.route_file import not_toml
from gateway.configuration.settings import NESTED, PREFIX, Settings
from gateway.configuration.toml_lines import Lines
from storage.state import StateUnusable

_NOT_SETTINGS = frozenset({"GATEWAY_CONFIG", "GATEWAY_EMBEDDED_PG_BINDIR"})
_KUBERNETES = re.compile(r"GATEWAY_(?:SERVICE_(?:HOST|PORT)|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)|$))")
"""What Kubernetes puts into every pod beside a Service that is called ``gateway``."""
_DEPTH = 3
_Path = tuple[str, ...]
"""Where a setting is: its name, and for one in a table the names on the way to it."""
_Found = dict[_Path, tuple[Any, str]]
"""By path: the value, and the setting as the operator wrote it."""


class SettingsInvalid(Exception):
    """The configuration cannot be used; ``faults`` holds one sentence for each thing that is wrong.

    ``rest`` is what the settings are but for ``unusable``, by their paths, so that a check can go on; None where
    there is no saying.
    """

    def __init__(
        self, faults: list[str], rest: Settings | None = None, unusable: Collection[_Path] = frozenset()
    ) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.rest = rest
        self.unusable = unusable


def load(
    overrides: Mapping[str, Any] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Gather the sources and validate once. Raises SettingsInvalid with every fault at once."""
    if config is None and environ.get("GATEWAY_CONFIG"):
        config = Path(environ["GATEWAY_CONFIG"])
    gathered = _Gathered()
    is_file_read = gathered.read_file(config)
    gathered.read_environment(environ)
    gathered.take(_from_options(overrides or {}))
    gathered.leave_out_unknown()
    settings = None
    try:
        settings = gathered.settings()
    except StateUnusable as error:  # nobody's home: there is no default
        gathered.faults.append(str(error))
    if settings is not None and not gathered.faults:
        return settings
    faults = sorted(gathered.faults, key=lambda fault: _line(config, fault))
    raise SettingsInvalid(faults, settings if is_file_read else None, gathered.unusable)


class _Gathered:
    """What the sources say, later ones over earlier ones, and what is wrong with it.

    ``named`` is each setting as the operator wrote it; ``unusable`` are those that were written and cannot be had.
    """

    def __init__(self) -> None:
        self.values: dict[_Path, Any] = {}
        self.named: dict[_Path, str] = {}
        self.faults: list[str] = []
        self.unusable: set[_Path] = set()

    def take(self, found: _Found) -> None:
        """One source more."""
        for path, (value, spelling) in found.items():
            self.values[path] = value
            self.named[path] = spelling

    def read_file(self, config: Path | None) -> bool:
        """Whether it could be read: else what it would have set is unknown."""
        if config is None:
            return True
        try:
            text = config.read_text()
            values = tomllib.loads(text)
        except OSError as error:
            self.faults.append(f"{config}: it cannot be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.faults.append(not_toml(config, error))
        else:
            lines = Lines(text)
            written = {
                path: (value, f"{config}{lines.spot(path)}: {'.'.join(path)}")
                for name, whole in values.items()
                for path, value in _leaves((name,), whole, deep=name in NESTED)
            }
            self.take(self._with_files_read(written))
            return True
        return False

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """An empty variable is one that is not set."""
        written: _Found = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS or _KUBERNETES.match(variable):
                continue
            path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            if path[0] not in NESTED or len(path) != _DEPTH:
                path = ("__".join(path),)
            if text or path[-1] not in _fields(path):
                written[path] = (text, variable)
        self.take(self._with_files_read(written))

    def _with_files_read(self, written: _Found) -> _Found:
        """Every ``…_file`` replaced by the setting whose value the file holds."""
        found: _Found = {}
        for path, (value, spelling) in written.items():
            setting = (*path[:-1], path[-1].removesuffix("_file"))
            if setting == path or path[-1] in _fields(path) or not isinstance(value, str) or not value:
                found[path] = (value, spelling)
            elif setting in written:
                self.faults.append(f"{spelling}: {written[setting][1]} is set as well; set one of them")
            else:
                text = self._content(value, spelling)
                if text or (text is not None and setting[-1] not in _fields(setting)):
                    found[setting] = (text, spelling)
                else:
                    self.unusable.add(setting)
        return found

    def _content(self, file: str, spelling: str) -> str | None:
        try:
            text = Path(file).read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{spelling}: {file} cannot be read: {getattr(error, 'strerror', None) or error}")
            return None
        if not text:
            self.faults.append(f"{spelling}: the file is empty")
        return text

    def leave_out_unknown(self) -> None:
        """Names that no setting has; and tables without addresses, which pydantic would tell of alone."""
        known = Settings.model_fields
        for path in [path for path in self.values if path[0] not in known]:
            del self.values[path]
            self.faults.append(f"{self.named[path]}: no such setting{_suggestion(path[0], known, self.named[path])}")
        self.faults += _without_addresses(self.named)
        self.unusable = (self.unusable | set(self.named)) - set(self.values)

    def settings(self) -> Settings | None:
        """The settings without those that are at fault, which are left out until the rest is settings.

        So a fault of several together is found beside those of single ones. None when that does not lead to any.
        """
        while True:
            try:
                return Settings(**_tree(self.values))
            except ValidationError as error:
                details = error.errors()
            for detail in details:
                said = _sentences(detail, self.named, self.unusable)
                self.faults += [fault for fault in said if fault not in self.faults]
            at_fault = {path for path in self.values for detail in details if _is_blamed(path, detail, self.values)}
            if not at_fault:
                return None
            self.unusable |= at_fault
            for path in at_fault:
                del self.values[path]


def _is_blamed(path: _Path, detail: Any, values: Collection[_Path]) -> bool:
    """Whether a fault is a setting's: by the fault's place, or its table where nothing stands there.

    Of faults without a place, by how their sentences begin.
    """
    place = _place(detail)
    if len(place) == _DEPTH and place not in values:
        place = place[:-1]
    if not place:
        return len(path) == 1 and path[0] in {line.partition(":")[0] for line in _lines(detail)}
    return path[: len(place)] == place or place[: len(path)] == path


def _without_addresses(named: Mapping[_Path, str]) -> list[str]:
    """Told beside the faults inside such a table, which pydantic would keep us from seeing."""
    tables: dict[str, str] = {}
    for path, spelling in named.items():
        if path[0] == "upstreams" and len(path) == _DEPTH:
            tables.setdefault(path[1], spelling)
    return [
        f"{spelling}: '{name}' has no addresses"
        for name, spelling in tables.items()
        if name != "default" and ("upstreams", name, "addresses") not in named
    ]


def _tree(values: Mapping[_Path, Any]) -> dict[str, Any]:
    """Nested as the paths say. What is no table where one should be stays, and is a fault of its own."""
    tree: dict[str, Any] = {}
    for path, value in sorted(values.items(), key=lambda item: len(item[0])):
        inner: Any = tree
        for name in path[:-1]:
            inner = inner.setdefault(name, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = value
    return tree


def _leaves(path: _Path, value: Any, *, deep: bool) -> Iterator[tuple[_Path, Any]]:
    if deep and isinstance(value, dict) and value and len(path) < _DEPTH:
        for name, inner in value.items():
            yield from _leaves((*path, name), inner, deep=True)
    else:
        yield path, value


def _fields(path: _Path) -> Collection[str]:
    return (NESTED[path[0]] if len(path) == _DEPTH else Settings).model_fields


def _from_options(overrides: Mapping[str, Any]) -> _Found:
    return {(name,): (value, "--" + name.replace("_", "-")) for name, value in overrides.items()}


def _suggestion(name: str, known: Iterable[str], spelling: str = "") -> str:
    """The nearest name, as it would be written where ``spelling`` was."""
    close = difflib.get_close_matches(name, [*known], n=1)
    if not close:
        return ""
    meant = PREFIX + close[0].upper() if spelling.startswith(PREFIX) else close[0]
    return f"; did you mean '{meant}'?"


def _line(config: Path | None, fault: str) -> int:
    """What faults are sorted by: their lines in the file, and those of other sources behind them."""
    place = fault.removeprefix(f"{config}:").partition(":")[0]
    return int(place) if config is not None and fault.startswith(f"{config}:") and place.isdigit() else sys.maxsize


_FORMS = {
    "greater_than": "it is a number above {gt:,.16g}",
    "greater_than_equal": "it is a number of at least {ge:,.16g}",
    "less_than_equal": "it is a number of at most {le:,.16g}",
    "int_parsing": "it is a whole number",
    "int_type": "it is a whole number",
    "int_from_float": "it is a whole number",
    "float_parsing": "it is a number",
    "float_type": "it is a number",
    "bool_parsing": "it is true or false",
    "bool_type": "it is true or false",
    "string_type": "it is a text, in quotation marks",
    "path_type": "it is a path, in quotation marks",
    "dict_type": "it is a table, or a table of tables",
    "model_type": "it is a table",
}
"""What pydantic says in its own words, by its name for it."""


def _place(detail: Any) -> _Path:
    return tuple(part for part in map(str, detail["loc"]) if part != "[key]")


def _lines(detail: Any) -> list[str]:
    return str(detail["msg"]).removeprefix("Value error, ").splitlines()


def _sentences(detail: Any, named: Mapping[_Path, str], unusable: Collection[_Path]) -> Iterator[str]:
    """One for each line of a validator's message, but for what only follows from a setting that cannot be used."""
    path = _place(detail)
    table = path[:-1] if len(path) == _DEPTH else path
    beside = {other[-1] for other in unusable if other[:-1] == table}
    for line in _lines(detail):
        if beside.isdisjoint(re.findall(r"\w+", line)):
            yield _sentence(path, line, detail, named)


def _sentence(path: _Path, message: str, detail: Any, named: Mapping[_Path, str]) -> str:
    if detail["type"] in _FORMS:
        message = _FORMS[detail["type"]].format(**detail.get("ctx", {}))
    if detail["type"] == "extra_forbidden":
        message = f"no such setting{_suggestion(path[-1], NESTED[path[0]].model_fields)}"
    # Of several settings together: the one that the sentence begins with, else whatever was written of the table.
    first = message.partition(" ")[0]
    if spelling := named.get((*path, first.removesuffix(":"))):
        return f"{spelling}: {message.removeprefix(first).lstrip() if first.endswith(':') else message}"
    for length in range(len(path), 0, -1):
        if path[:length] in named:
            return f"{named[path[:length]]}: {message}"
    table = path[:-1] if len(path) == _DEPTH else path
    written = next((spelling for where, spelling in named.items() if where[: len(table)] == table and table), "")
    if written:
        return f"{written}: {message}"
    return ": ".join(filter(None, (".".join(path), message)))
