"""Connections to PostgreSQL, each lent inside one transaction and one scope: a tenant's, or the operator's.

A tenant's transaction runs as the role ``platform_app`` with ``platform.tenant`` set, so that row-level security shows
it that tenant alone; an operator's runs as the connecting role, which owns the tables. Both are set for the transaction
and nothing is ever set for the session: a session may be PgBouncer's, and the next transaction somebody else's.

asyncpg has a pool too. This one exists because a connection that died in a server restart must not cost a caller an
error: it can throw every idle connection away and go on with a fresh one, and it forgets, without awaiting anything, a
connection whose answer was abandoned (the class of CVE-2023-28858).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import asyncpg
from asyncpg.transaction import Transaction
from typing_extensions import override

from storage.ports import StorageError, Unavailable
from storage.postgres.address import Address, Connection
from storage.postgres.faults import Lost, asking
from storage.postgres.ids import Kind

_IDLE_SECONDS = 240.0
"""Firewalls forget silent connections, some after 350 s (AWS NAT gateways), and tell neither end."""

_ORDERLY = (StorageError, ValueError, asyncpg.PostgresError)
"""What may end a transaction and leave the session sound. After all else, such as a cancelled wait, it is in doubt."""


async def enter_tenant(connection: Connection, tenant_id: str) -> None:
    """Narrow the transaction that is open on ``connection`` to one tenant, until it ends."""
    await connection.execute(
        "SELECT set_config('role', 'platform_app', true), set_config('platform.tenant', $1, true)", tenant_id
    )


class Pool:
    """At most ``max_size`` connections, none before it is needed: the server may be down when the gateway starts.

    ``connect_timeout`` bounds the wait for a free connection, and again that for a new one; ``command_timeout`` bounds
    each statement (seconds). Everything here raises :class:`storage.ports.Unavailable` when the server cannot be asked.
    """

    def __init__(
        self,
        url: str,
        *,
        max_size: int = 5,
        connect_timeout: float = 2.0,
        command_timeout: float = 5.0,
        pgbouncer: bool = False,
    ) -> None:
        address = Address.parse(url)
        self._address = replace(address, pgbouncer=address.pgbouncer or pgbouncer)
        self._max_size = max_size
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._room = asyncio.Semaphore(max_size)
        self._idle: list[tuple[Connection, float]] = []  # the longest idle first
        self._closed = False

    def tenant(self, tenant_id: str) -> AbstractAsyncContextManager[Connection]:
        """A transaction that can see and change this tenant alone; committed when the block ends without an error.

        A connection that broke before the transaction began is replaced; one that breaks later is not, because nobody
        knows what was committed. Never swallow a database error inside: PostgreSQL turns the commit into a rollback.
        """
        if not tenant_id.startswith(Kind.TENANT):
            raise ValueError(f"{tenant_id!r} is not the id of a tenant: those begin with {Kind.TENANT.value!r}")
        return self._transaction(tenant_id)

    def operator(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction across tenants; else as :meth:`tenant`."""
        return self._transaction(None)

    @asynccontextmanager
    async def together(self) -> AsyncIterator["Pool"]:
        """A pool whose transactions are parts of one, the operator's: all or nothing, whichever repositories take part.

        They follow each other and are nested nowhere; it is good for nothing once the block has ended.
        """
        async with self.operator() as connection:
            yield _Together(connection)

    async def read(self, sql: str, *args: object, tenant_id: str | None = None) -> list[asyncpg.Record]:
        """The rows of one statement that changes nothing, in a tenant's scope or the operator's.

        Asked once more, on a fresh connection, when the connection breaks.
        """
        try:
            return await self._read_once(sql, args, tenant_id)
        except Lost:
            return await self._read_once(sql, args, tenant_id)

    async def ping(self) -> None:
        """Whether the server answers."""
        await self.read("SELECT 1")

    async def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=self._connect_timeout)

    async def _read_once(self, sql: str, args: tuple[object, ...], tenant_id: str | None) -> list[asyncpg.Record]:
        if tenant_id is not None:
            async with self.tenant(tenant_id) as connection:
                return await connection.fetch(sql, *args)
        connection = await self._take()  # one statement is its own transaction: one round trip, not three
        sound = False
        try:
            with self._asking():
                rows = await connection.fetch(sql, *args)
            sound = True
        finally:
            self._give_back(connection, sound=sound)
        return rows

    @asynccontextmanager
    async def _transaction(self, tenant_id: str | None) -> AsyncIterator[Connection]:
        try:
            connection, transaction = await self._begin(tenant_id)
        except Lost:
            connection, transaction = await self._begin(tenant_id)
        sound = False
        try:
            with self._asking():
                try:
                    yield connection
                except _ORDERLY:
                    if not connection.is_closed():
                        await transaction.rollback()
                        sound = True
                    raise
                await transaction.commit()
                sound = True
        finally:
            self._give_back(connection, sound=sound)

    async def _begin(self, tenant_id: str | None) -> tuple[Connection, Transaction]:
        connection = await self._take()
        begun = False
        try:
            with self._asking():
                transaction = connection.transaction()
                await transaction.start()
                if tenant_id is not None:
                    await enter_tenant(connection, tenant_id)
            begun = True
        finally:
            if not begun:
                self._give_back(connection, sound=False)
        return connection, transaction

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with asking():
                yield
        except Unavailable:
            self._forget_idle()  # what befell this connection has most likely befallen them all
            raise

    async def _take(self) -> Connection:
        if self._closed:
            raise Unavailable("The connections to PostgreSQL are closed: the gateway is shutting down.")
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._room.acquire()
        except TimeoutError as error:
            raise Unavailable(
                f"All {self._max_size} connections to PostgreSQL stayed busy for {self._connect_timeout:g} s."
            ) from error
        connection = self._warm()
        if connection is not None:
            return connection
        connected = False
        try:
            connection = await self._address.connect(
                timeout=self._connect_timeout, command_timeout=self._command_timeout
            )
            connected = True
        finally:
            if not connected:
                self._room.release()
        return connection

    def _warm(self) -> Connection | None:
        horizon = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle and self._idle[0][1] < horizon:
            self._idle.pop(0)[0].terminate()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _give_back(self, connection: Connection, *, sound: bool) -> None:
        if sound and not self._closed:
            self._idle.append((connection, asyncio.get_running_loop().time()))
        else:
            connection.terminate()
        self._room.release()

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].terminate()


class _Together(Pool):
    """See :meth:`Pool.together`. Each part has its own scope."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def read(self, sql: str, *args: object, tenant_id: str | None = None) -> list[asyncpg.Record]:
        async with self._transaction(tenant_id) as connection:
            return await connection.fetch(sql, *args)

    @override
    @asynccontextmanager
    async def _transaction(self, tenant_id: str | None) -> AsyncIterator[Connection]:
        if tenant_id is not None:
            await enter_tenant(self._connection, tenant_id)
        yield self._connection
        await self._connection.execute(
            "SELECT set_config('role', 'none', true), set_config('platform.tenant', '', true)"
        )
