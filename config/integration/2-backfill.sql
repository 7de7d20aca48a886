-- Old rows get their tenants: psql -v jobs=SCHEMA.TABLE [-v owner=COLUMN] [-v fallback=SLUG] -f 2-backfill.sql.
-- owner: the column that holds the id (usr_…) or the e-mail of the person whose job it is. fallback: the tenant of rows
-- that no owner decides. May be stopped and run again: it goes on where it was. See README.md.
\set ON_ERROR_STOP on
\if :{?owner} \else \set owner '' \endif
\if :{?fallback} \else \set fallback '' \endif
SET lock_timeout = '5s';
SELECT set_config('integration.jobs', :'jobs'::regclass::text, false),
    set_config('integration.owner', :'owner', false),
    set_config('integration.fallback', :'fallback', false)
\g /dev/null

DO $$
DECLARE
    jobs      text := current_setting('integration.jobs');
    owned_by  text := current_setting('integration.owner');
    fallback  text := current_setting('integration.fallback');
    default_tenant  text;
    done      bigint;
    last      tid;
    first     tid := '(0,0)';
    found     bigint := 0;
    remaining bigint;
BEGIN
    IF NOT has_schema_privilege('platform', 'USAGE') THEN
        RAISE EXCEPTION '% may not read the schema platform, where the members are: run this as a superuser', current_user;
    END IF;
    IF fallback <> '' THEN
        SELECT id INTO default_tenant FROM platform.tenants WHERE slug = fallback;
        IF default_tenant IS NULL THEN
            RAISE EXCEPTION 'there is no tenant %', quote_literal(fallback) USING HINT = 'See them: gateway tenant list';
        END IF;
    END IF;
    LOOP
        -- By place in the table: no row is looked at twice, and none is sorted.
        EXECUTE format('SELECT max(ctid) FROM (SELECT ctid FROM %s WHERE ctid > $1 ORDER BY ctid LIMIT 5000) batch', jobs)
            INTO last USING first;
        EXIT WHEN last IS NULL;
        EXECUTE format(
            $sql$
            UPDATE %1$s job SET tenant_id = decided.tenant
            FROM (
                SELECT job.ctid AS place, coalesce(
                    CASE WHEN owners.tenants = 1 THEN owners.tenant END, CASE WHEN owners.tenants = 0 THEN $3 END
                ) AS tenant
                FROM %1$s job
                CROSS JOIN LATERAL (
                    SELECT count(*) AS tenants, min(m.tenant_id) AS tenant
                    FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
                    WHERE %2$s
                ) owners
                WHERE job.ctid > $1 AND job.ctid <= $2 AND job.tenant_id IS NULL
            ) decided
            WHERE job.ctid = decided.place AND decided.tenant IS NOT NULL
            $sql$,
            jobs,
            CASE WHEN owned_by = '' THEN 'false'
                ELSE format('%1$s::text = u.id OR lower(%1$s::text) = u.email', 'job.' || quote_ident(owned_by)) END
        ) USING first, last, default_tenant;
        GET DIAGNOSTICS done = ROW_COUNT;
        found := found + done;
        first := last;
        COMMIT;
    END LOOP;
    EXECUTE format('SELECT count(*) FROM %s WHERE tenant_id IS NULL', jobs) INTO remaining;
    RAISE NOTICE '% rows got a tenant, % rows still without a tenant', found, remaining;
END
$$;
