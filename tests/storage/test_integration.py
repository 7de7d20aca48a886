"""A transcription service's job table beside ours: tenants come into it without a stop, and are kept apart by it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from policies.identity.tenants import Role
from tests import programs
from tests.storage.world import World, world

SCRIPTS = Path(__file__).parents[2] / "config" / "integration"
ROWS = 12_000


@pytest.fixture
async def w(migrated_url: str) -> AsyncIterator[World]:
    """In a database of its own: the schema is changed here."""
    async with world(migrated_url) as opened:
        yield opened


async def psql(url: str, script: str, **variables: str) -> tuple[int, str]:
    """A script's exit status, and all that it said."""
    said = [word for name, value in {"jobs": "public.jobs", **variables}.items() for word in ("-v", f"{name}={value}")]
    process = await asyncio.create_subprocess_exec(
        programs.psql(), "-X", "-q", url, *said, "-f", str(SCRIPTS / script),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def populated(url: str, owners: list[str | None]) -> asyncpg.Connection:
    """A service's database: jobs of many owners, and a role that the service connects as."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        """
        CREATE TABLE public.jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, submitted_by text, text text);
        DO $$ BEGIN CREATE ROLE transcriber NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        GRANT transcriber TO current_user;
        GRANT SELECT, INSERT, UPDATE, DELETE ON public.jobs TO transcriber;
        """
    )
    await connection.execute(
        "INSERT INTO public.jobs (submitted_by, text) SELECT ($1::text[])[1 + n % cardinality($1)], 'words'"
        " FROM generate_series(1, $2::int) n",
        owners,
        ROWS,
    )
    return connection


async def test_a_populated_table_gets_its_tenants(w: World, migrated_url: str) -> None:
    """By id, by e-mail, by fallback; a person of two tenants is not guessed. Every script may be run twice."""
    acme, beta, house = await w.tenant(), await w.tenant(), await w.tenant()
    ada, bob, both = await w.user(acme), await w.user(beta), await w.user(acme)
    await w.directory.create_user(beta.id, both.email, "", Role.MEMBER)
    service = await populated(migrated_url, [ada.id, bob.email.upper(), both.id, "somebody", None])
    for _ in range(2):
        assert await psql(migrated_url, "1-expand.sql") == (0, "")
    status, said = await psql(migrated_url, "2-backfill.sql", owner="submitted_by", fallback=house.slug)
    assert status == 0, said
    assert f"{ROWS // 5} rows still without a tenant" in said
    found = await service.fetch("SELECT submitted_by, tenant_id, count(*) FROM public.jobs GROUP BY 1, 2")
    assert {row["submitted_by"]: row["tenant_id"] for row in found} == {
        ada.id: acme.id, bob.email.upper(): beta.id, both.id: None, "somebody": house.id, None: house.id,
    }  # fmt: skip
    status, said = await psql(migrated_url, "3-enforce.sql", role="transcriber")
    assert status != 0, "rows without a tenant must not pass"
    assert "tenant_id_is_there" in said
    await service.execute("UPDATE public.jobs SET tenant_id = $1 WHERE tenant_id IS NULL", acme.id)
    for _ in range(2):
        status, said = await psql(migrated_url, "3-enforce.sql", role="transcriber")
        assert (status, said) == (0, "")
    status, said = await psql(migrated_url, "2-backfill.sql", owner="submitted_by")
    assert "0 rows still without a tenant" in said
    await service.close()


async def test_afterwards_the_service_sees_one_tenants_jobs(w: World, migrated_url: str) -> None:
    """And its inserts are that tenant's without a change of its SQL."""
    acme, beta = await w.tenant(), await w.tenant()
    service = await populated(migrated_url, [None])
    await psql(migrated_url, "1-expand.sql")
    await psql(migrated_url, "2-backfill.sql", fallback=beta.slug)
    assert await psql(migrated_url, "3-enforce.sql", role="transcriber") == (0, "")
    async with service.transaction():
        await service.execute("SET LOCAL ROLE transcriber")
        assert await service.fetchval("SELECT count(*) FROM public.jobs") == 0
        await service.execute("SELECT set_config('platform.tenant', $1, true)", acme.id)
        await service.execute("INSERT INTO public.jobs (text) VALUES ('hello')")
        assert await service.fetch("SELECT tenant_id, text FROM public.jobs") == [(acme.id, "hello")]
        assert await service.execute("UPDATE public.jobs SET text = ''") == "UPDATE 1"
    await service.execute("SET ROLE transcriber")
    await service.execute("SELECT set_config('platform.tenant', $1, false)", acme.id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute("INSERT INTO public.jobs (tenant_id) VALUES ($1)", beta.id)
    await service.close()


async def test_what_cannot_be_is_said(w: World, migrated_url: str) -> None:
    service = await populated(migrated_url, [None])
    await psql(migrated_url, "1-expand.sql")
    status, said = await psql(migrated_url, "2-backfill.sql", fallback="nobody")
    assert status != 0
    assert "there is no tenant 'nobody'" in said
    owner = await service.fetchval("SELECT current_user")
    status, said = await psql(migrated_url, "3-enforce.sql", role=owner)
    assert status != 0
    assert "must not own the table" in said
    await service.close()
