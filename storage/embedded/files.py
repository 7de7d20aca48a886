"""Writing small files in directories that may belong to somebody else."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Give the file this content, at once and whole; it belongs to the owner of its directory, and is 0600.

    Never by writing into what is there: the directory's owner could have put a symlink there, and we may be root.
    """
    home = path.parent.stat()
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(content)
        if os.geteuid() == 0:
            os.fchown(fd, home.st_uid, home.st_gid)
    new.replace(path)
