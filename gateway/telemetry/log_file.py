"""Standard output where it is a file that is rotated: lines go to its end, and to a new file at a reload.

A pipe, as journald and Docker have it, needs neither.
"""

import contextlib
import fcntl
import os
import stat
import sys
from pathlib import Path

import structlog

_log = structlog.get_logger("gateway.log_file")


class LogFile:
    """The file behind ``descriptor``, and where it stands; or no file, and then nothing happens."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = ""
        with contextlib.suppress(OSError):  # closed, or a system without /proc
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                # Else the next line behind a truncation (logrotate's copytruncate) stands behind as many NULs.
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
                self._place = str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def reopen(self, *others: int) -> None:
        """Go on in the file that now stands where it stood, new if none does; ``others`` too that led to the same one.

        Processes that are started from here on inherit it. Where it cannot be made all goes on as it was.
        """
        if not self._place:
            return
        old = os.fstat(self._descriptor)
        try:
            new = os.open(self._place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, stat.S_IMODE(old.st_mode))
        except OSError as error:
            _log.warning("the log goes on in the file that was moved away: none can be made", cause=error.strerror)
            return
        with os.fdopen(new, "ab") as now:
            if os.path.samestat(old, os.fstat(new)):
                return
            sys.stdout.flush()
            for descriptor in (self._descriptor, *others):
                if os.path.samestat(old, os.fstat(descriptor)):
                    os.dup2(now.fileno(), descriptor)
