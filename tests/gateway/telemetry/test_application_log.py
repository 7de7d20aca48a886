"""The gateway's own log costs its lines where they cannot be written, and nothing else."""

import errno
import io
import logging
import os

import pytest
from typing_extensions import override

from gateway.telemetry.application_log import Lines

SAID = logging.LogRecord("gateway", logging.INFO, "", 0, "said", (), None)
BUG = logging.LogRecord("gateway", logging.INFO, "", 0, "said %d", ("x",), None)


class Full(io.StringIO):
    """A file on a disk without room."""

    @override
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_once_and_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, which may be elsewhere."""
    lines = Lines(Full())
    for _ in range(3):
        lines.handle(SAID)
    told = capsys.readouterr().err
    assert told == "Lines of the log are lost: standard output takes none. No space left on device.\n"


def test_a_line_that_cannot_be_made_is_still_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(io.StringIO()).handle(BUG)
    assert "Traceback" in capsys.readouterr().err
