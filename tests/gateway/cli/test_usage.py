"""`gateway usage`: figures that are true at once, and exports that are complete or say that they are not."""

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.cli import whole_account
from policies.account.usage import INTERIM, Outcome, UsageRecord
from policies.jobs import NEVER_TOLD
from storage.journal.writer import Journal
from storage.usage_rows import encode
from tests.gateway.cli.conftest import Operator
from tests.storage.usage_samples import record

FIGURES = ("requests", "audio_ms", "bytes_in", "bytes_out", "errors", "denied", "unmeasured")


class Account:
    """A tenant `acme`, and a gateway's journal to write its usage into."""

    def __init__(self, operator: Operator, state_dir: Path) -> None:
        self.operator = operator
        self.tenant_id = operator.json("tenant", "create", "acme")["id"]
        self.journals = state_dir / "journal"
        state_dir.mkdir()
        self.journal = Journal(self.journals, segment_bytes=1 << 16)
        self.numbers = count(1)

    def use(self, **changes: object) -> UsageRecord:
        """Settle a request, of this very moment if nothing else is said, as a gateway would."""
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        own = f"{self.journal.journal_id}-{next(self.numbers)}"
        made = record(**{"tenant_id": self.tenant_id, "ended_ms": now_ms, "event_id": own, **changes})
        self.journal.append(encode(made))
        return made

    def totals(self, *words: str) -> dict[str, Any]:
        """What a report says."""
        return self.operator.json("usage", "report", "--tenant", "acme", *words)

    def database(self, sql: str) -> None:
        """Change the books behind everybody's back."""

        async def change() -> None:
            connection = await asyncpg.connect(self.operator.environment["GATEWAY_DATABASE_URL"])
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(change())

    def known(self) -> None:
        """Tell the database of this journal, as its gateway's first shipment does."""
        self.database(
            f"INSERT INTO platform.journals (journal_id, position, records) VALUES ('{self.journal.journal_id}', 64, 0)"
        )


@pytest.fixture
def account(operator: Operator, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setattr(whole_account, "PATIENCE_S", 60.0)  # on machines that may be busy
    made = Account(operator, state_dir)
    yield made
    made.journal.close()


def at(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def test_a_report_counts_what_the_journal_still_holds(account: Account) -> None:
    """The very second after a request its figures are there, though nobody has shipped them yet."""
    account.known()
    account.use(bytes_in=100, bytes_out=10)
    account.use(bytes_in=100, bytes_out=10, status=429, outcome=Outcome.DENIED)
    report = account.totals("--from", "1h")
    report.pop("from")
    ended = datetime.fromisoformat(report.pop("to"))
    assert abs(ended - datetime.now(UTC)) < timedelta(seconds=30)
    figures = {"requests": 2, "audio_ms": 5_000, "bytes_in": 200, "bytes_out": 20, "errors": 1, "denied": 1}
    assert report == {"tenant": "acme", **figures, "unmeasured": 0}


def test_a_report_begins_with_the_month(account: Account) -> None:
    report = account.totals()
    last = datetime.fromisoformat(report["to"]) - timedelta(milliseconds=1)
    assert datetime.fromisoformat(report["from"]) == last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def test_a_report_says_how_much_was_not_measured(account: Account) -> None:
    account.known()
    account.use()
    account.use(measured=NEVER_TOLD, status=INTERIM, event_id=f"job:k:1:{at(datetime.now(UTC))}")
    assert sum(one["requests"] for one in account.totals("--from", "1h", "--by", "model")["groups"]) == 1
    report = account.totals("--from", "1h", "--by", "route")
    assert (report["requests"], report["audio_ms"], report["unmeasured"]) == (1, 2_500, 1)
    assert report["groups"][0]["unmeasured"] == 1


def test_a_report_without_usage_is_of_zeros(account: Account) -> None:
    report = account.totals()
    assert {report[name] for name in FIGURES} == {0}


def test_a_report_is_a_line_for_each_figure(account: Account) -> None:
    account.known()
    account.use()
    result = account.operator.run("usage", "report", "--tenant", "acme", "--from", "1h")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [*FIGURES]
    assert "requests\t1\n" in result.stdout
    assert result.stderr == ""


def test_a_journal_of_unknown_origin_is_not_carried_into_these_books(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be that of a gateway with another database, whose account it would then be missing from for ever."""
    monkeypatch.setattr(whole_account, "PATIENCE_S", 0.0)
    account.use()
    account.journal.close()
    before = sorted(path.name for path in account.journals.iterdir())
    result = account.operator.run("usage", "report", "--tenant", "acme", "--from", "1h", "--json")
    assert json.loads(result.stdout)["requests"] == 0
    assert "Not in these figures" in result.stderr
    assert sorted(path.name for path in account.journals.iterdir()) == before


def test_a_journal_that_cannot_be_read_is_said(account: Account, state_dir: Path) -> None:
    account.journal.close()
    account.journals.rmdir()
    account.journals.write_text("no directory")
    result = account.operator.run("usage", "report", "--tenant", "acme", "--from", "1h", "--json")
    assert "cannot be read" in result.stderr


def test_a_range_is_from_inclusive_to_exclusive(account: Account) -> None:
    account.known()
    noon = datetime(2026, 3, 14, 12, tzinfo=UTC)
    for moment in (noon - timedelta(milliseconds=1), noon, noon + timedelta(hours=1)):
        account.use(ended_ms=at(moment))
    span = ("--from", "2026-03-14T12:00:00Z", "--to", "2026-03-14T14:00:00+01:00")
    assert account.totals(*span)["requests"] == 1
    assert account.totals("--from", "2026-03-14", "--to", "2026-03-15")["requests"] == 3
    assert account.totals("--to", "2026-04-01")["requests"] == 3, "without a start: the month in which the range ends"
    assert account.totals("--from", "20000d")["requests"] == 3


def test_relative_times_are_back_from_now(account: Account) -> None:
    account.known()
    now = datetime.now(UTC)
    account.use(ended_ms=at(now - timedelta(hours=25)))
    account.use(ended_ms=at(now - timedelta(hours=23)))
    assert account.totals("--from", "24h")["requests"] == 1
    assert account.totals("--from", "2d", "--to", "24h")["requests"] == 1


def test_a_breakdown_names_what_it_can(account: Account) -> None:
    account.known()
    key = account.operator.json("key", "create", "--tenant", "acme", "--name", "night shift")["id"]
    account.use(key_id=key)
    account.use(key_id=key)
    account.use(key_id="")
    report = account.operator.json("usage", "report", "--tenant", "acme", "--from", "1h", "--by", "key")
    assert report["by"] == "key"
    assert [(group["key"], group["name"], group["requests"]) for group in report["groups"]] == [
        ("", "", 1),
        (key, "night shift", 2),
    ]
    table = account.operator.table("usage", "report", "--tenant", "acme", "--from", "1h", "--by", "key")
    assert table[0] == [
        "KEY",
        "NAME",
        "REQUESTS",
        "AUDIO_MS",
        "BYTES_IN",
        "BYTES_OUT",
        "ERRORS",
        "DENIED",
        "UNMEASURED",
    ]
    assert [row[:3] for row in table[1:]] == [["-", "-", "1"], [key, "night shift", "2"], ["total", "-", "3"]]


def test_each_key_has_its_hours(account: Account) -> None:
    account.known()
    for minute, key in ((30, "key_1"), (90, "key_1"), (100, "key_2")):
        account.use(ended_ms=at(datetime(2026, 3, 14, 12, tzinfo=UTC) + timedelta(minutes=minute)), key_id=key)
    day = ("usage", "report", "--tenant", "acme", "--from", "2026-03-14", "--to", "2026-03-15", "--by", "key")
    hours = account.operator.json(*day, "--bucket", "1h")["groups"]
    assert [(group["since"], group["key"], group["requests"]) for group in hours] == [
        ("2026-03-14T12:00:00Z", "key_1", 1),
        ("2026-03-14T13:00:00Z", "key_1", 1),
        ("2026-03-14T13:00:00Z", "key_2", 1),
    ]
    table = account.operator.table(*day, "--bucket", "1d")
    assert table[0][:4] == ["SINCE", "KEY", "NAME", "REQUESTS"]
    assert [[row[1], row[3]] for row in table[1:]] == [["key_1", "2"], ["key_2", "1"], ["total", "3"]]
    account.operator.run("usage", "report", "--tenant", "acme", "--by", "hour", "--bucket", "1d", status=2)


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("user", ["usr_1"]),
        ("route", ["openai.transcriptions"]),
        ("day", ["2026-03-14"]),
        ("hour", ["2026-03-14T12:00Z"]),
    ],
)
def test_a_breakdown_by_anything_adds_up(account: Account, by: str, labels: list[str]) -> None:
    account.known()
    account.use(ended_ms=at(datetime(2026, 3, 14, 12, 30, tzinfo=UTC)), user_id="usr_1")
    report = account.operator.json("usage", "report", "--tenant", "acme", "--from", "2026-03-01", "--by", by)
    assert [group[by] for group in report["groups"]] == labels
    assert sum(group["audio_ms"] for group in report["groups"]) == report["audio_ms"] == 2_500


def test_export_is_one_object_a_line_in_order_of_time(account: Account) -> None:
    account.known()
    soon = at(datetime.now(UTC)) - 10
    late = account.use(ended_ms=soon + 2)
    early = account.use(ended_ms=soon + 1)
    words = ("usage", "export", "--tenant", "acme", "--from", "1h")
    result = account.operator.run(*words)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event_id"] for line in lines] == [early.event_id, late.event_id]
    assert (lines[0]["tenant"], lines[0]["audio_ms"], lines[0]["audio_source"]) == ("acme", 2_500, "walked")
    assert result.stderr == "2 records.\n"
    assert account.operator.run(*words, "--json").stdout == result.stdout


def test_export_as_csv_defuses_formulas(account: Account) -> None:
    account.known()
    account.use(request_id="=1+1", user_id="")
    result = account.operator.run("usage", "export", "--tenant", "acme", "--from", "1h", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["request_id"], row["status"]) == ("'=1+1", "200")


def test_an_export_of_nothing_is_empty(account: Account) -> None:
    assert account.operator.run("usage", "export", "--tenant", "acme").stdout == ""
    assert account.operator.run("usage", "export", "--tenant", "acme", "--format", "csv").stdout.count("\n") == 1


def test_other_tenants_usage_is_not_seen(account: Account) -> None:
    account.known()
    account.use()
    account.operator.run("tenant", "create", "other")
    assert account.operator.run("usage", "export", "--tenant", "other").stdout == ""
    assert account.operator.json("usage", "report", "--tenant", "other")["requests"] == 0


def test_books_that_agree_say_so(account: Account) -> None:
    account.known()
    account.use()
    assert account.operator.run("usage", "reconcile").stdout.startswith("The books agree")
    assert account.operator.json("usage", "reconcile") == {"agree": True, "differences": []}


def test_books_that_differ_are_a_failure_with_both_figures(account: Account) -> None:
    account.known()
    account.use()
    account.totals()
    account.database("UPDATE platform.usage_hourly SET audio_ms = 7")
    result = account.operator.run("usage", "reconcile", status=1)
    assert "audio_ms 7 instead of 2500" in result.stdout
    (difference,) = account.operator.json("usage", "reconcile", status=1)["differences"]
    assert (difference["expected"]["audio_ms"], difference["found"]["audio_ms"]) == (2_500, 7)


def test_a_record_that_is_not_what_its_journal_has_is_a_failure(account: Account) -> None:
    """Though all sums agree, and though the journal is still being written."""
    account.known()
    changed = account.use()
    account.totals()
    account.database("UPDATE platform.usage_events SET request_id = 'other'")
    result = account.operator.run("usage", "reconcile", status=1)
    assert f"{changed.event_id}' is not what its journal has: request_id 'other' instead of" in result.stdout


@pytest.mark.parametrize("command", ["report", "export"])
def test_an_unknown_tenant_is_a_failure(operator: Operator, command: str) -> None:
    refused = operator.run("usage", command, "--tenant", "nobody", status=1)
    assert "There is no tenant 'nobody'" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("report", "--tenant", "acme", "--by", "phase of the moon"),
        ("report", "--tenant", "acme", "--from", "recently"),
        ("report", "--tenant", "acme", "--from", "2026-02-30"),
        ("report", "--tenant", "acme", "--from", "999999999w"),
        ("report", "--tenant", "acme", "--from", "2026-03-01", "--to", "2026-03-01"),
        ("export", "--tenant", "acme", "--from", "1h", "--to", "2h"),
        ("export", "--tenant", "acme", "--format", "xml"),
        ("export", "--tenant", "acme", "--format", "csv", "--json"),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("usage", *words, status=2).stdout == ""
