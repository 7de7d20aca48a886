-- Tokens: the keys that sign them, what was revoked before its time, log-ins that can be renewed, service accounts.

-- migrate:up

-- A key's stage (pending, active, retiring, gone) follows from its instants and the clock; nothing has to run for a key
-- to move on. The private half is sealed with a key that is not in the database, and dropped once the key is gone.
CREATE TABLE platform.signing_keys (
    id           text COLLATE "C" PRIMARY KEY,
    algorithm    text NOT NULL CHECK (algorithm IN ('EdDSA', 'ES256')),
    public_jwk   text NOT NULL,
    sealed       bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    active_at    timestamptz NOT NULL,
    retiring_at  timestamptz CHECK (retiring_at >= active_at),
    gone_at      timestamptz CHECK (gone_at >= retiring_at)
);

-- What is void although its signature is good: 'token:<jti>', 'family:<sid>', 'subject:<sub>'. A row counts for tokens
-- issued up to its own second, and for as long as one of those can live.
CREATE TABLE platform.token_revocations (
    what        text COLLATE "C" PRIMARY KEY,
    revoked_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX token_revocations_revoked_at_idx ON platform.token_revocations (revoked_at);

-- One log-in that can be renewed. Its refresh tokens are derived from the seed, the generation and a secret that is not
-- in the database: no token is stored, nor its digest.
CREATE TABLE platform.refresh_families (
    id          text PRIMARY KEY CHECK (id LIKE 'fam\_%'),
    tenant_id   text NOT NULL,
    user_id     text NOT NULL,
    client_id   text NOT NULL,
    scopes      text[] NOT NULL,
    seed        bytea NOT NULL CHECK (octet_length(seed) = 32),
    generation  integer NOT NULL DEFAULT 1 CHECK (generation > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    rotated_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    ended_by    text CHECK (ended_by IN ('revoked', 'reused', 'ended')),
    CONSTRAINT refresh_families_member_fkey FOREIGN KEY (tenant_id, user_id)
        REFERENCES platform.memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX refresh_families_user_idx ON platform.refresh_families (user_id);

CREATE TABLE platform.service_accounts (
    id           text PRIMARY KEY CHECK (id LIKE 'svc\_%'),
    tenant_id    text NOT NULL CONSTRAINT service_accounts_tenant_fkey REFERENCES platform.tenants,
    name         text NOT NULL CHECK (name <> ''),
    scopes       text[] NOT NULL,
    audiences    text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    disabled_at  timestamptz,
    CONSTRAINT service_accounts_name_key UNIQUE (tenant_id, name),
    CONSTRAINT service_accounts_tenant_key UNIQUE (tenant_id, id)
);

-- Two at most while one is being replaced by the other.
CREATE TABLE platform.service_secrets (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    tenant_id   text NOT NULL,
    account_id  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    CONSTRAINT service_secrets_account_fkey FOREIGN KEY (tenant_id, account_id)
        REFERENCES platform.service_accounts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX service_secrets_account_idx ON platform.service_secrets (tenant_id, account_id);

ALTER TABLE platform.signing_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.token_revocations ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.refresh_families ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.service_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.service_secrets ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON platform.refresh_families TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.service_accounts TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));
CREATE POLICY tenant ON platform.service_secrets TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));

-- Keys and revocations are the operator's alone. A tenant's scope makes and ends its own log-ins and accounts, and reads
-- neither a seed nor a digest.
GRANT SELECT (id, tenant_id, user_id, client_id, scopes, created_at, rotated_at, expires_at, ended_at, ended_by),
    INSERT, UPDATE (ended_at, ended_by) ON platform.refresh_families TO platform_app;
GRANT SELECT, INSERT, UPDATE (disabled_at, scopes, audiences) ON platform.service_accounts TO platform_app;
GRANT SELECT (tenant_id, account_id, created_at, expires_at), INSERT, UPDATE (expires_at), DELETE
    ON platform.service_secrets TO platform_app;
