-- Every job has a tenant, and a transaction sees its own tenant's: psql -v jobs=SCHEMA.TABLE -v role=NAME -f 3-enforce.sql.
-- role: what the service connects as; it must not own the table. May be run again. See README.md.
\set ON_ERROR_STOP on
SET lock_timeout = '5s';
SET client_min_messages = warning;

SELECT pg_get_userbyid(relowner) = :'role' AS owns FROM pg_class WHERE oid = :'jobs'::regclass
\gset
\if :owns
DO $$ BEGIN
    RAISE EXCEPTION 'the role must not own the table: row-level security does not bind an owner'
        USING HINT = 'Let the service connect as another role, with SELECT, INSERT, UPDATE and DELETE on the table.';
END $$;
\endif

-- NOT NULL by way of a check: validating it reads the table without keeping anybody out, and NOT NULL then need not look.
SELECT format('ALTER TABLE %s ADD CONSTRAINT tenant_id_is_there CHECK (tenant_id IS NOT NULL) NOT VALID', :'jobs'::regclass)
WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = :'jobs'::regclass AND conname = 'tenant_id_is_there')
    AND NOT (SELECT attnotnull FROM pg_attribute WHERE attrelid = :'jobs'::regclass AND attname = 'tenant_id')
\gexec
SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT tenant_id_is_there', :'jobs'::regclass)
WHERE EXISTS (SELECT FROM pg_constraint WHERE conrelid = :'jobs'::regclass AND conname = 'tenant_id_is_there')
\gexec
ALTER TABLE :jobs ALTER COLUMN tenant_id SET NOT NULL;
ALTER TABLE :jobs DROP CONSTRAINT IF EXISTS tenant_id_is_there;

SELECT format(
    'CREATE POLICY tenant ON %s TO %I USING (tenant_id = nullif(current_setting(''platform.tenant'', true), ''''))',
    :'jobs'::regclass, :'role'
)
WHERE NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = :'jobs'::regclass AND polname = 'tenant')
\gexec
ALTER TABLE :jobs ENABLE ROW LEVEL SECURITY;
