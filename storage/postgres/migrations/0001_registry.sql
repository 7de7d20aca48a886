-- The registry: tenants, people, API keys, limits and exceptions to the route table.
--
-- Law of this schema: a table with a tenant_id has row-level security and a policy for platform_app, the role that every
-- tenant-scoped transaction runs as. Without a tenant set, the policies match nothing. The owner of the tables is not
-- subject to them: that is the operator's scope.

-- migrate:up

-- A role belongs to the cluster, not to this database: it may be there already, and another database may be making it at
-- this very moment.
DO $$
DECLARE
    own_role text := current_setting('role');
BEGIN
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'platform_app') THEN
            CREATE ROLE platform_app NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
    END;
    BEGIN
        -- Trying is the only test that means the same on every release: membership without SET exists since 16.
        PERFORM set_config('role', 'platform_app', true);
        PERFORM set_config('role', own_role, true);
    EXCEPTION WHEN insufficient_privilege THEN
        BEGIN
            EXECUTE format('GRANT platform_app TO %I', current_user);
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE insufficient_privilege USING
        MESSAGE = format('the database user %I may not create the role platform_app, or not join it', current_user),
        HINT = format(
            E'Ask a database administrator to run this, once, then migrate again:\n%s    GRANT platform_app TO %I;',
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'platform_app')
                THEN '' ELSE E'    CREATE ROLE platform_app NOLOGIN;\n' END,
            current_user
        );
END
$$;

GRANT USAGE ON SCHEMA platform TO platform_app;

CREATE TABLE platform.tenants (
    id          text PRIMARY KEY CHECK (id LIKE 'ten\_%'),
    slug        text COLLATE "C" NOT NULL CONSTRAINT tenants_slug_key UNIQUE,
    name        text NOT NULL CHECK (name <> ''),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- E-mail is stored in lower case, folded by the gateway: lower() depends on the database's locale.
CREATE TABLE platform.users (
    id             text PRIMARY KEY CHECK (id LIKE 'usr\_%'),
    email          text COLLATE "C" NOT NULL CHECK (email = lower(email)),
    name           text NOT NULL,
    status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    password_hash  text,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON platform.users (lower(email));

CREATE TABLE platform.memberships (
    tenant_id   text NOT NULL CONSTRAINT memberships_tenant_fkey REFERENCES platform.tenants,
    user_id     text NOT NULL REFERENCES platform.users,
    role        text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'service')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT memberships_pkey PRIMARY KEY (tenant_id, user_id)
);

-- Foreign keys carry the tenant along: no row can name a key or a member of another tenant, whoever writes it.
CREATE TABLE platform.api_keys (
    id            text PRIMARY KEY CHECK (id LIKE 'key\_%'),
    tenant_id     text NOT NULL CONSTRAINT api_keys_tenant_fkey REFERENCES platform.tenants,
    user_id       text,
    name          text NOT NULL CHECK (name <> ''),
    digest        bytea NOT NULL CONSTRAINT api_keys_digest_key UNIQUE CHECK (octet_length(digest) = 32),
    last4         text NOT NULL CHECK (char_length(last4) = 4),
    scopes        text[] NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz CHECK (isfinite(expires_at)),
    revoked_at    timestamptz,
    rotated_from  text CONSTRAINT api_keys_rotated_from_key UNIQUE,
    CONSTRAINT api_keys_tenant_key UNIQUE (tenant_id, id),
    CONSTRAINT api_keys_owner_fkey FOREIGN KEY (tenant_id, user_id)
        REFERENCES platform.memberships (tenant_id, user_id),
    CONSTRAINT api_keys_predecessor_fkey FOREIGN KEY (tenant_id, rotated_from)
        REFERENCES platform.api_keys (tenant_id, id)
);

-- A request rate: the tenant's own where key_id is null. The holder is whichever of the two the rate is for; it makes
-- "one each" a primary key on releases before 15, which have no NULLS NOT DISTINCT.
CREATE TABLE platform.limits (
    holder     text GENERATED ALWAYS AS (coalesce(key_id, tenant_id)) STORED PRIMARY KEY,
    tenant_id  text NOT NULL CONSTRAINT limits_tenant_fkey REFERENCES platform.tenants,
    key_id     text,
    count      bigint NOT NULL CHECK (count > 0),
    period_ms  bigint NOT NULL CHECK (period_ms > 0),
    CONSTRAINT limits_key_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES platform.api_keys (tenant_id, id)
);
CREATE INDEX limits_tenant_id_idx ON platform.limits (tenant_id);

-- A row forbids the tenant a route that the table allows; what the table forbids, no row can allow.
CREATE TABLE platform.route_overrides (
    tenant_id   text NOT NULL CONSTRAINT route_overrides_tenant_fkey REFERENCES platform.tenants,
    route       text COLLATE "C" NOT NULL CHECK (route <> ''),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, route)
);

ALTER TABLE platform.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.route_overrides ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON platform.tenants TO platform_app
    USING (id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.memberships TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.api_keys TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.limits TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.route_overrides TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
-- A person has no tenant; a tenant sees the people who are its members.
CREATE POLICY members ON platform.users TO platform_app
    USING (EXISTS (
        SELECT FROM platform.memberships
        WHERE memberships.user_id = users.id AND memberships.tenant_id = current_setting('platform.tenant', true)
    ));

-- No more than the repositories need: a tenant's scope cannot read a digest or a password hash, nor move a row elsewhere.
GRANT SELECT ON platform.tenants TO platform_app;
GRANT SELECT (id, email, name, status, created_at), UPDATE (status) ON platform.users TO platform_app;
GRANT SELECT, INSERT ON platform.memberships TO platform_app;
GRANT SELECT (id, tenant_id, user_id, name, last4, scopes, created_at, expires_at, revoked_at, rotated_from),
    INSERT, UPDATE (expires_at, revoked_at) ON platform.api_keys TO platform_app;
GRANT SELECT, INSERT, UPDATE (count, period_ms), DELETE ON platform.limits TO platform_app;
GRANT SELECT, INSERT, DELETE ON platform.route_overrides TO platform_app;
