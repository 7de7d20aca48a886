"""The platform API against its own document: what the document allows or forbids is asked for, and answered so."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.demo import ADMIN
from policies.identity.permissions import Permission
from tests.e2e.running import Demo

# A cursor that a list has not given and a URL that is no place for events are well-formed by any schema and refused.
# Which methods a path takes is said by the gateway, for all of the portal's paths at once.
LEFT_OUT = "positive_data_acceptance,unsupported_method,allow_header_conformance,ignored_auth"

# A target of more than 8 kB is refused as well, by a status of its own. Methods that no check looks at are not sent.
CONFIGURATION = """
[phases.coverage]
unexpected-methods = []

[checks]
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "415", "422", "431"]
"""


@pytest.mark.timeout(600)
def test_handlers_and_document_agree(demo: Demo, tmp_path: Path) -> None:
    """Schemathesis: no server error, no undocumented status, type or shape, nothing taken that the schema forbids."""
    demo.run("operator", "grant", ADMIN)
    scopes = [word for permission in Permission for word in ("--scope", permission)]
    key = demo.run("key", "create", "--tenant", "demo", "--name", "api", "--user", ADMIN, *scopes)["key"]
    url = demo.facts["url"]
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration),
            "run", f"{url}/platform/v1/openapi.json", "--url", url,
            "-H", f"Authorization: Bearer {key}", "--checks", "all", "--exclude-checks", LEFT_OUT,
            "--max-examples", "2", "--phases", "coverage,fuzzing", "--seed", "1", "--generation-database", "none",
            "--request-timeout", "120", "--no-color",
            "--exclude-path", "/platform/v1/keys/{key_id}", "--exclude-path", "/platform/v1/tenant",
        ],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
