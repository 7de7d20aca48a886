"""The servers under every kind of user: an ordinary one, root, and a root that may do little."""

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import scratch
from tests.storage.embedded import portable
from tests.storage.embedded.portable import Portable
from tests.storage.embedded.watching import ask, eventually, get, lives, put, working_in

NOBODY = pwd.getpwnam("nobody")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who alone can become somebody else")


@pytest.fixture(scope="module")
def anywhere() -> Iterator[Portable]:
    """owner.py for a user who may go nowhere but where everybody may."""
    if os.geteuid():
        yield portable.ours()
        return
    with scratch() as directory:
        yield portable.copy_to(directory)


async def test_an_ordinary_user_needs_nobody_elses_rights(place, own, anywhere):
    user = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    (place / "home").mkdir(mode=0o700)
    if user:
        os.chown(place / "home", NOBODY.pw_uid, NOBODY.pw_gid)
    state = place / "home" / "state"
    owner = own(state, portable=anywhere, cwd=place / "home", **user)
    assert owner.said.error == ""
    assert await _works(owner)
    os.kill(owner.said.postgres, 9)
    assert await eventually(lambda: _works(owner))
    uid = NOBODY.pw_uid if user else os.geteuid()
    assert {_uid(owner.said.valkey), _uid(owner.pid), _owner_of(state), _owner_of(state / "pg18")} == {uid}
    owner.kill()
    await eventually(lambda: _gone(state))

    again = own(state, portable=anywhere, cwd=place / "home", **user)
    assert await _works(again)
    again.close()
    assert working_in(state) == []


@as_root
async def test_root_runs_the_servers_as_somebody_else_and_closes_their_data(place, own):
    owner = own(place / "state")
    assert await _works(owner)
    assert 0 not in {_uid(owner.said.postgres), _uid(owner.said.valkey), _owner_of(place / "state" / "pg18")}
    assert _owner_of(place / "state") == 0
    assert {_mode(place / "state" / name) for name in ("pg18", "valkey", "run")} == {0o700}
    assert _mode(place / "state") == 0o711


@as_root
async def test_root_may_keep_the_programs_below_a_closed_directory_which_stays_closed(place, own, anywhere):
    closed = place / "root"
    closed.mkdir(mode=0o700)
    code = portable.link_to(closed / "app", anywhere)
    owner = own(place / "state", portable=code)
    assert owner.said.error == ""
    assert await _works(owner)
    assert _mode(closed) == 0o700
    copies = sorted(path.name for path in (place / "state").glob("bin-*"))
    assert [name.rstrip("0123456789.post") for name in copies] == ["bin-", "bin-valkey-"]
    owner.close()

    started = (place / "state" / copies[0]).stat().st_mtime_ns
    again = own(place / "state", portable=code)
    assert await _works(again)
    assert (place / "state" / copies[0]).stat().st_mtime_ns == started  # copied once


@as_root
async def test_root_may_keep_the_state_below_a_closed_directory_which_stays_closed(place, own, copy_state):
    closed = place / "root"
    closed.mkdir(mode=0o700)
    state = copy_state(closed / "state")
    owner = own(state)
    assert await _works(owner)
    os.kill(owner.said.postgres, 9)
    assert await eventually(lambda: _works(owner))
    owner.kill()
    await eventually(lambda: _gone(state))

    again = own(state)
    assert await _works(again)
    assert _mode(closed) == 0o700


@as_root
async def test_a_first_start_below_a_closed_directory(place, own):
    (place / "root").mkdir(mode=0o700)
    owner = own(place / "root" / "state")
    assert owner.said.error == ""
    assert await _works(owner)


@as_root
async def test_root_without_the_right_to_look_at_other_users_processes_finds_its_leftovers(place, own, copy_state):
    # An ordinary container: no CAP_SYS_PTRACE, so /proc/PID/cwd of the servers is closed even to root.
    state = copy_state(place / "state")
    limited = ("/usr/bin/setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    owner = own(state, wrapper=limited)
    busy = await _backend(owner)
    os.kill(owner.pid, 9)
    os.kill(owner.said.postgres, 9)
    os.kill(owner.said.valkey, 9)

    try:
        again = own(state, wrapper=limited)
        assert again.said.error == ""
        assert await _works(again)
        assert not lives(busy)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(busy, 9)


@as_root
async def test_a_root_that_may_not_change_its_user_is_told_what_to_do(place, own):
    limited = ("/usr/bin/setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid")
    owner = own(place / "state", wrapper=limited)
    assert "StartFailed" in owner.said.error
    assert "cannot become user id" in owner.said.error
    assert "GATEWAY_DATABASE_URL" in owner.said.error
    owner.close()
    assert working_in(place) == []


@as_root
async def test_a_user_without_a_name_is_told_what_to_do(place, own, anywhere):
    os.chown(place, 12345, 12345)
    owner = own(place / "state", portable=anywhere, cwd=place, user=12345, group=12345, extra_groups=[])
    assert "12345 has no entry in /etc/passwd" in owner.said.error


@as_root
async def test_an_ordinary_user_cannot_use_the_state_of_root(place, own, anywhere):
    (place / "state").mkdir(mode=0o700)
    owner = own(place / "state", portable=anywhere, cwd="/", user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[])
    assert owner.said.error.startswith("StateUnusable: ")
    assert f"user id {NOBODY.pw_uid} may write" in owner.said.error


@as_root
async def test_root_serves_data_of_an_ordinary_user_and_leaves_it_theirs(place, own, copy_state, anywhere):
    state = copy_state(place / "state")
    for path in (state, *state.rglob("*")):
        shutil.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    owner = own(state)
    assert await _works(owner)
    assert _uid(owner.said.postgres) == NOBODY.pw_uid
    owner.close()

    theirs = own(state, portable=anywhere, cwd="/", user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[])
    assert theirs.said.error == ""
    theirs.close()


async def _works(owner) -> bool:
    """Whether both servers answer. Asked by root where the owner is another user, so that peer's map is tried too."""
    await put(owner.said.redis_url, "k", "v")
    return await ask(owner.said.database_url, "select 1") == 1 and await get(owner.said.redis_url, "k") == b"v"


async def _backend(owner) -> int:
    """A backend that goes on after its postmaster, because it is stopped where it stands."""
    pid = await ask(owner.said.database_url, "select pid from pg_stat_activity where backend_type = 'checkpointer'")
    os.kill(pid, 19)
    return pid


async def _gone(state: Path) -> bool:
    return not working_in(state)


def _uid(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _owner_of(path: Path) -> int:
    return path.stat().st_uid


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
