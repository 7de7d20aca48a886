"""The gateway's own log: structlog, one JSON object a line on standard output, the libraries' records included."""

import contextlib
import logging
import sys
from typing import Any, TextIO

import structlog
from typing_extensions import override

from gateway.telemetry.json_lines import json_line


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines. A full disk, or a reader that has gone, costs the lines, as it does access lines."""

    _is_lost = False

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that lines are lost, where logging has a traceback for each. A bug of ours still gets its own."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_lost:
            self._is_lost = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"Lines of the log are lost: standard output takes none. {error.strerror}.\n")


def configure(level: str) -> None:
    """Set up structlog and bridge :mod:`logging` into it, once a process."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt=None, key="ts"),  # seconds since the epoch, as in access lines
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = Lines(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_line),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _line(event: dict[str, Any], **_: Any) -> str:
    return json_line(event).decode("ascii").removesuffix("\n")
