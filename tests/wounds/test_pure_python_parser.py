"""Where aiohttp's C extension is missing its other parser reads, and must not open what the first one closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RAW = (
    "test_ambiguous_targets", "test_framing", "test_identity_headers", "test_many_chunks", "test_methods",
    "test_mutated_framing", "test_odd_hosts", "test_odd_values", "test_oversize_headers", "test_refused_uploads",
    "test_slow_bodies", "test_slow_headers", "test_split_messages", "test_whole_messages",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_the_wounds_stay_closed_without_the_c_extension() -> None:
    """The tests that speak raw HTTP, once more, in a process where ``AIOHTTP_NO_EXTENSIONS`` is set."""
    here = Path(__file__).parent
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            *(str(here / f"{name}.py") for name in RAW),
        ],
        cwd=here.parent.parent,
        env=os.environ | {"AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        timeout=870,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
