"""The system user the servers run as, and what that user can reach."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from storage.embedded.errors import StartFailed

ELSEWHERE = "give GATEWAY_DATABASE_URL and GATEWAY_REDIS_URL of servers that run elsewhere"

_READ, _EXECUTE = 4, 1


@dataclass(frozen=True, slots=True)
class Account:
    """Who the servers are. ``borrowed`` when they are not the user of this process (which is then root)."""

    uid: int
    gid: int
    name: str
    borrowed: bool

    def can_enter(self, directory: Path) -> bool:
        """Whether every directory from the root down to this one lets the account through, by its mode bits."""
        return all(self._may(step, _EXECUTE) for step in (directory, *directory.parents))

    def can_run(self, program: Path) -> bool:
        """Whether the account can reach, read and execute the program (a program it cannot read loses its /proc)."""
        homes = {program.parent, program.resolve().parent}
        return all(self.can_enter(home) for home in homes) and self._may(program, _READ | _EXECUTE)

    def _may(self, path: Path, want: int) -> bool:
        if not self.borrowed:
            return True  # our own rights: the attempt itself says it better
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
        return (found.st_mode >> shift) & want == want

    def give(self, path: Path) -> None:
        """Make the account the owner of something that we made. Raises StartFailed."""
        if not self.borrowed:
            return
        try:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise StartFailed(
                f"{path} cannot be given to the user {self.name}: {error.strerror}. PostgreSQL refuses to run as root, "
                f"and this root may not become anybody else (a container with one user id?): run the gateway as an "
                f"ordinary user, or {ELSEWHERE}."
            ) from error

    def make_private(self, directory: Path) -> Path:
        """Make one of our own directories, or see that it is 0700 and the account's. Raises StartFailed.

        A symlink is taken as it is: whoever put it there answers for what is behind it.
        """
        directory.mkdir(exist_ok=True)
        if directory.is_symlink():
            return directory
        self.give(directory)
        directory.chmod(0o700)
        return directory

    def is_private(self, directory: Path) -> bool:
        """Whether this is a directory of the account's that nobody else can enter, and no symlink to one."""
        try:
            found = directory.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(found.st_mode) and found.st_uid == self.uid and not found.st_mode & 0o077


def choose(state: Path) -> Account:
    """Who the servers of this state directory run as. Raises StartFailed when there is nobody fit for it.

    An ordinary user runs them as itself. Root runs them as the owner of the data that is there, else as ``postgres``,
    else as ``nobody``; it never makes a system user.
    """
    if os.geteuid() != 0:
        return _ourselves()
    for data in sorted((*state.glob("pg[0-9]*"), *state.glob("valkey"))):
        owner = data.stat().st_uid
        if owner:
            return _borrow(_numbered(owner), f"user id {owner}, who owns {data}")
    return _borrow(_named("postgres") or _named("nobody"), "postgres or nobody")


def own_name() -> str:
    """The name of this process's user, as PostgreSQL's peer authentication will see it. Raises StartFailed."""
    return _ourselves().name


def _ourselves() -> Account:
    uid = os.geteuid()
    entry = _numbered(uid)
    if entry is None:
        # initdb: "could not look up effective user ID"; peer authentication would refuse the client as well.
        raise StartFailed(
            f"The user id {uid} has no entry in /etc/passwd, and PostgreSQL refuses such a user: run the gateway as a "
            f"user with a name, or {ELSEWHERE}."
        )
    return Account(uid=uid, gid=os.getegid(), name=entry.pw_name, borrowed=False)


def _borrow(entry: pwd.struct_passwd | None, wanted: str) -> Account:
    if entry is None:
        raise StartFailed(
            f"PostgreSQL refuses to run as root, and there is no {wanted} in /etc/passwd to run it as: run the gateway "
            f"as an ordinary user, or {ELSEWHERE}."
        )
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name, borrowed=True)


def _named(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _numbered(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
