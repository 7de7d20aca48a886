"""Migrations do not hold up a gateway that is serving: squawk says what would, and here is why some of it may stand."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from storage.postgres.history import MIGRATIONS

ROOT = Path(__file__).parents[2]
SMALL = "the table has a row for each tenant, limit, member or person: scanning it takes milliseconds"
NOBODY = "what is dropped is replaced in the same transaction, or was read by no release"
ROLL_UPS = (
    "rewrites the roll-ups' key while usage waits in the journals; the lock is given up after 10 s and tried again"
)
JOBS = "no row has the new column yet: one pass over some weeks' jobs"

EXCEPTIONS: dict[str, dict[str, str]] = {
    "0004_administration.sql": {"constraint-missing-not-valid": SMALL, "adding-foreign-key-constraint": SMALL},
    "0007_limits.sql": {
        "ban-drop-constraint": NOBODY,
        "ban-drop-column": NOBODY,
        "ban-drop-not-null": "the release before writes the column always, and reads rows of its own kind alone",
        "adding-field-with-default": SMALL,
        "constraint-missing-not-valid": SMALL,
        "adding-serial-primary-key-field": SMALL,
        "adding-foreign-key-constraint": SMALL,
        "require-concurrent-index-deletion": SMALL,
    },
    "0008_people.sql": {"ban-drop-constraint": NOBODY, "constraint-missing-not-valid": SMALL},
    "0011_usage_model.sql": {
        "ban-drop-constraint": NOBODY,
        "constraint-missing-not-valid": ROLL_UPS,
        "adding-serial-primary-key-field": ROLL_UPS,
    },
    "0013_plans.sql": {
        "adding-foreign-key-constraint": "the column is new: no row refers to anything",
        "ban-drop-constraint": NOBODY,
        "constraint-missing-not-valid": SMALL,
        "require-concurrent-index-creation": SMALL,
    },
    "0021_jobs_pending.sql": {"require-concurrent-index-creation": JOBS},
    "0036_usage_corrections.sql": {"require-concurrent-index-creation": JOBS},
}
"""By file and rule, each with its reason. Rules that say nothing here are switched off in ``.squawk.toml``."""


@pytest.fixture(scope="module")
def findings() -> dict[str, set[str]]:
    """What squawk finds: rules, by file."""
    files = sorted(map(str, MIGRATIONS.glob("*.sql")))
    squawk = Path(sys.executable).with_name("squawk")
    done = subprocess.run(
        [str(squawk), "--reporter", "json", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found = defaultdict(set)
    for each in json.loads(done.stdout):
        found[Path(each["file"]).name].add(each["rule_name"])
    return found


def test_a_migration_holds_nobody_up_but_for_a_reason(findings: dict[str, set[str]]) -> None:
    """Write a new one as squawk says, or say here why it need not be."""
    for name, rules in findings.items():
        assert rules <= EXCEPTIONS.get(name, {}).keys(), name


def test_no_reason_is_left_over(findings: dict[str, set[str]]) -> None:
    for name, rules in EXCEPTIONS.items():
        assert rules.keys() <= findings[name], name
