"""Waiting for what processes do, and looking at those that are there."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
import redis.asyncio as redis
from redis.exceptions import RedisError

T = TypeVar("T")


async def eventually(probe: Callable[[], Awaitable[T]], within: float = 60.0) -> T:
    """Ask until the answer is true; an error of a server that is away is a no."""
    async with asyncio.timeout(within):
        while True:
            try:
                if answer := await probe():
                    return answer
            except (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            await asyncio.sleep(0.005)


async def ask(url: str, query: str, *values: object) -> object:
    """One value from PostgreSQL."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *values)
    finally:
        await connection.close()


async def do(url: str, statement: str) -> None:
    """Run a statement."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def put(url: str, key: str, value: str) -> None:
    async with redis.from_url(url) as client:
        await client.set(key, value)


async def get(url: str, key: str) -> bytes | None:
    async with redis.from_url(url) as client:
        return await client.get(key)


def mode(path: Path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


def exists(path: Path) -> bool:
    return path.exists()


def has(directory: Path, pattern: str) -> bool:
    return any(directory.glob(pattern))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def lives(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def working_in(state: Path) -> list[str]:
    """The command lines of living processes that work in, or mention, the state directory."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            cwd = str((proc / "cwd").readlink())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if lives(int(proc.name)) and (str(state) in command or cwd.startswith(str(state))):
            found.append(command)
    return found
