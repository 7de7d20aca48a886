"""Becomes a server that dies with the gateway. A script: run by path with ``python -I -S``, never imported.

    launch.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT ...]

Why not ``preexec_fn``: it runs Python between fork and exec, which is unsafe (and since 3.12 warned about) as soon as
the gateway has a second thread; and not every event loop passes ``user=`` on.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _become(uid: int, gid: int) -> None:
    if uid == os.geteuid():
        return
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        sys.exit(
            f"cannot become user id {uid}: {error.strerror}. This root may not change its user (a container with one "
            "user id, or without CAP_SETUID?): run the gateway as an ordinary user, or give GATEWAY_DATABASE_URL and "
            "GATEWAY_REDIS_URL of servers that run elsewhere."
        )


def _die_with(parent: int, signal: int) -> None:
    # After the change of user: the kernel forgets the death signal when credentials change (prctl(2)). It survives the
    # exec of an ordinary program.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal))
    # The parent may have died before the call. Comparing with its remembered id also holds where it is PID 1.
    if os.getppid() != parent:
        sys.exit("the gateway that started this server is gone")


parent, signal, uid, gid, *command = sys.argv[1:]
os.umask(0o077)
_become(int(uid), int(gid))
_die_with(int(parent), int(signal))
os.execv(command[0], command)  # noqa: S606  the very purpose; the command is ours
