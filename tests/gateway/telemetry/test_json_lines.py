"""A log line is one line of ASCII, whatever strings are in it, and says what was said."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.json_lines import json_line
from policies.account.usage import Outcome

ROOT = Path(__file__).parents[3]
HOSTILE = [
    '\r\n{"forged":true}', "\x00\x01\x1b[31m", "\x7f", "\x85", "\x9b31m", "\u2028\u2029", "\ud800",
    "\udcff\udc80", "é€😀",
    '\\"\\u000a', "\ufeff", "\u202e", "\uffff",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_string_stays_in_its_field_on_its_line(text: str) -> None:
    """O-01: line breaks of every kind, what terminals obey, and bytes that are no text."""
    line = json_line({"path": text, text: 1})
    assert line.isascii()
    assert not set(line[:-1]) & set(range(0x20))
    assert line.decode("ascii").splitlines() == [line[:-1].decode("ascii")]
    assert json.loads(line) == {"path": text, text: 1}


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.text()))))
def test_every_line_reads_back(fields: dict[str, object]) -> None:
    line = json_line(fields)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == fields


def test_what_json_does_not_know_is_written_as_text() -> None:
    when = datetime(2026, 11, 26, tzinfo=UTC)
    assert json.loads(json_line({"at": when, "outcome": Outcome.OK, "e": ValueError("x"), "u": "\ud800"})) == {
        "at": str(when), "outcome": "ok", "e": "x", "u": "\ud800",
    }  # fmt: skip


LOGGING = """
import logging, structlog
from gateway.telemetry import application_log
application_log.configure("info")
log = structlog.get_logger("gateway.test")
log.warning("a file", name="x\\udcff\\n\\u2028")
logging.getLogger("asyncio").error("a %s", "\\udcff", extra={"more": 1})
try:
    raise ValueError("\\N{SNOWMAN}")
except ValueError:
    log.exception("it broke")
log.debug("not at this level")
"""


def test_the_gateways_own_log_is_such_lines_the_libraries_included() -> None:
    """In a process of its own, as it is set up once a process."""
    ran = subprocess.run([sys.executable, "-c", LOGGING], cwd=ROOT, capture_output=True, check=True)
    assert ran.stderr == b""
    lines = [json.loads(line) for line in ran.stdout.split(b"\n")[:-1]]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("a file", "warning"), ("a \udcff", "error"), ("it broke", "error"),
    ]  # fmt: skip
    assert lines[0]["name"] == "x\udcff\n\u2028"
    assert (lines[1]["logger"], lines[1]["more"]) == ("asyncio", 1)
    assert "ValueError: \N{SNOWMAN}" in lines[2]["exception"]
