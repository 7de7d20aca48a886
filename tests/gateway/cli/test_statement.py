"""`gateway usage statement`: a month's money, that adds up, and what another price list would make of it."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.cli import whole_account
from policies.account.usage import INTERIM, AudioSource, Measured
from tests.gateway.cli.conftest import Operator
from tests.gateway.cli.test_usage import Account

MONTH = "2026-06"
IN_IT = int(datetime(2026, 6, 15, tzinfo=UTC).timestamp() * 1000)
PLANS = """
default = "standard"
[plans.standard]
currency = "EUR"
price_per_minute = 0.006
[plans.dear]
currency = "EUR"
price_per_minute = 0.06
minimum_s = 60
"""


@pytest.fixture
def account(operator: Operator, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setattr(whole_account, "PATIENCE_S", 60.0)  # on machines that may be busy
    made = Account(operator, state_dir)
    for audio_ms, model in ((600_000, "whisper-1"), (600_000, "=cmd()"), (500, "whisper-1")):
        measured = Measured(audio_ms=audio_ms, source=AudioSource.WALKED, walked_ms=audio_ms, model=model)
        made.use(measured=measured, ended_ms=IN_IT)
    made.known()
    yield made
    made.journal.close()


@pytest.fixture
def plans(tmp_path: Path) -> str:
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)
    return str(path)


def test_a_month_is_rated_and_adds_up(account: Account, plans: str) -> None:
    made = account.operator.json("usage", "statement", "--tenant", "acme", "--month", MONTH, "--plans", plans)
    assert (made["plan"], made["currency"], made["amount"], made["requests"]) == ("standard", "EUR", "0.12", 3)
    assert [(line["model"], line["requests"], line["billable_ms"], line["amount"]) for line in made["lines"]] == [
        ("=cmd()", 1, 600_000, "0.06"),
        ("whisper-1", 2, 600_500, "0.06"),
    ]


def test_a_tenants_plan_names_its_price_list(account: Account, plans: str) -> None:
    """Unless the file names another for the tenant; one that the file has not is no reason to take the default."""
    words = ("--tenant", "acme", "--month", MONTH, "--plans", plans)
    account.operator.run("plan", "create", "gold", "--rating", "dear")
    account.operator.run("plan", "assign", "gold", "acme")
    assert account.operator.json("usage", "statement", *words)["plan"] == "dear"
    assert account.operator.json("usage", "statement", *words, "--plan", "standard")["plan"] == "standard"
    account.operator.run("plan", "set", "gold", "--rating", "lost")
    assert "no price list 'lost'" in account.operator.run("usage", "statement", *words, status=2).stderr


def test_a_month_is_rated_again_and_compared(account: Account, plans: str) -> None:
    words = ("--tenant", "acme", "--month", MONTH, "--plans", plans, "--against-plan", "dear")
    against = account.operator.json("usage", "statement", *words)["against"]
    assert (against["amount"], against["difference"]) == ("1.26", "1.14")
    assert [line["difference"] for line in against["lines"]] == ["0.54", "0.60"]
    said = account.operator.run("usage", "statement", *words).stdout
    _, _, compared = said.partition("Plan dear: 1.26 EUR, +1.14")
    assert [line.split()[-1] for line in compared.split("\n")[3:] if line] == ["+0.54", "+0.60", "+1.14"]


def test_a_tenant_that_was_removed_can_still_be_billed(account: Account, plans: str) -> None:
    """By its id, as its records are found; a living one by its own calendar also then."""
    ((tenant_id, name),) = ((one["id"], one["slug"]) for one in account.operator.json("tenant", "list"))
    words = ("--tenant", tenant_id, "--month", MONTH, "--plans", plans)
    account.operator.run("limits", "set", "--tenant", name, "--time-zone", "Asia/Tokyo")
    made = account.operator.json("usage", "statement", *words)
    assert (made["tenant"], made["time_zone"]) == (name, "Asia/Tokyo")
    account.operator.run("tenant", "delete", name, "--grace", "0s")
    account.operator.run("tenant", "purge")
    made = account.operator.run("usage", "statement", *words, "--json")
    assert json.loads(made.stdout)["amount"] == "0.12"
    assert "months are those of UTC" in made.stderr


def test_a_csv_has_a_total_and_no_formula(account: Account, plans: str) -> None:
    words = ("--tenant", "acme", "--month", MONTH, "--plans", plans, "--format", "csv", "--by", "key")
    rows = list(csv.reader(io.StringIO(account.operator.run("usage", "statement", *words).stdout)))
    assert [row[1] for row in rows] == ["model", "'=cmd()", "whisper-1", "total"]
    assert rows[-1][-3:] == ["0.12", "EUR", "total"]


def test_a_credit_is_a_line_of_its_own_below_nothing(account: Account, plans: str) -> None:
    """In words, in the difference to another list, and as a number in a spreadsheet; lines add up to the total."""
    taken = Measured(audio_ms=-600_000, before_ms=600_000, source=AudioSource.WALKED, model="whisper-1")
    account.use(measured=taken, status=INTERIM, ended_ms=IN_IT)
    words = ("--tenant", "acme", "--month", MONTH, "--plans", plans)
    made = account.operator.json("usage", "statement", *words, "--against-plan", "dear")
    lines = [(line["model"], line["kind"], line["requests"], line["amount"]) for line in made["lines"]]
    assert lines == [("=cmd()", "usage", 1, "0.06"), ("whisper-1", "usage", 2, "0.06"),
                     ("whisper-1", "credit", -1, "-0.06")]  # fmt: skip
    assert (made["amount"], made["requests"]) == ("0.06", 2)
    assert [(line["kind"], line["difference"]) for line in made["against"]["lines"]] == [
        ("usage", "0.54"), ("usage", "0.60"), ("credit", "-0.54")
    ]  # fmt: skip
    rows = list(csv.reader(io.StringIO(account.operator.run("usage", "statement", *words, "--format", "csv").stdout)))
    assert rows[3] == ["whisper-1", "-1", "-600000", "-600000", "0.006", "-0.06", "EUR", "credit"]
    assert "failed later" in account.operator.run("usage", "statement", *words).stdout


def test_a_month_is_the_tenants_own(account: Account, plans: str) -> None:
    """In its zone, from its anchor day on: as its quotas have it. By default the last one that is over."""
    account.operator.run("limits", "set", "--tenant", "acme", "--time-zone", "Pacific/Auckland", "--anchor-day", "15")
    made = account.operator.json("usage", "statement", "--tenant", "acme", "--plans", plans, "--month", "2026-06")
    assert (made["month"], made["time_zone"]) == ("2026-06", "Pacific/Auckland")
    assert (made["from"], made["to"]) == ("2026-06-14T12:00:00Z", "2026-07-14T12:00:00Z")
    last = account.operator.json("usage", "statement", "--tenant", "acme", "--plans", plans)
    assert datetime.fromisoformat(last["to"]) <= datetime.now(UTC)
    assert last["requests"] == 0
    assert "still to come" in account.operator.run(
        "usage", "statement", "--tenant", "acme", "--plans", plans, "--month", "2098-01", status=2
    ).stderr  # fmt: skip


def test_price_lists_come_from_the_settings(account: Account, plans: str) -> None:
    words = ("usage", "statement", "--tenant", "acme", "--month", MONTH)
    assert "--plans FILE" in account.operator.run(*words, status=2).stderr
    account.operator.environment["GATEWAY_PLANS_FILE"] = plans
    assert account.operator.json(*words)["amount"] == "0.12"
    assert account.operator.run("check-config").exit_code == 0
    Path(plans).write_text("[plans.x]\ncurrency = 1\n")
    told = account.operator.run("check-config", status=1).stderr
    assert "plans.x: price_per_minute is missing" in told
    assert "plans.x: currency is a code" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plan", "gold"), "there is no plan 'gold'; it has dear, standard"),
        (("--month", "2026-13"), "is not a month"),
        (("--plans", "/nowhere.toml"), "cannot be read"),
    ],
)
def test_what_is_written_wrongly_is_explained(account: Account, plans: str, words: tuple[str, ...], said: str) -> None:
    plain = () if "--plans" in words else ("--plans", plans)
    result = account.operator.run("usage", "statement", "--tenant", "acme", *plain, *words, status=2)
    assert said in result.output
