-- A job table learns of tenants: psql -v jobs=SCHEMA.TABLE -f 1-expand.sql. May be run again. See README.md.
\set ON_ERROR_STOP on
SET lock_timeout = '5s';
SET client_min_messages = warning;

ALTER TABLE :jobs ADD COLUMN IF NOT EXISTS tenant_id text COLLATE "C";

-- New rows: the transaction's tenant. Null outside one, until 3-enforce.sql.
ALTER TABLE :jobs ALTER COLUMN tenant_id SET DEFAULT nullif(current_setting('platform.tenant', true), '');

-- A concurrent index that was interrupted stays behind, marked invalid: it is dropped and made anew.
SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
FROM pg_index
WHERE indrelid = :'jobs'::regclass AND NOT indisvalid AND indexrelid::regclass::text LIKE '%tenant_id_idx'
\gexec

SELECT format(
    'CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON %s (tenant_id)',
    (SELECT relname FROM pg_class WHERE oid = :'jobs'::regclass) || '_tenant_id_idx', :'jobs'::regclass
)
\gexec
