-- People: their profiles and second factors, and the browsers in which they are signed in.

-- migrate:up

ALTER TABLE platform.users
    ADD COLUMN language text NOT NULL DEFAULT 'en',
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN password_changed_at timestamptz,
    ADD COLUMN last_login_at timestamptz,
    -- Sealed with a key that is not in the database. Confirmed once a code was given; the last step used never comes again.
    ADD COLUMN totp_sealed bytea,
    ADD COLUMN totp_confirmed_at timestamptz,
    ADD COLUMN totp_step bigint NOT NULL DEFAULT 0;
-- A deleted person is a row without a name: what others did with it still has somebody to point at.
ALTER TABLE platform.users DROP CONSTRAINT users_status_check;
ALTER TABLE platform.users ADD CONSTRAINT users_status_check CHECK (status IN ('active', 'disabled', 'deleted'));

-- A browser's session. Redis holds those that live, for their idle time; what ended is said here, where it is not lost.
CREATE TABLE platform.sessions (
    id                text PRIMARY KEY CHECK (id LIKE 'ses\_%'),
    digest            bytea NOT NULL CONSTRAINT sessions_digest_key UNIQUE CHECK (octet_length(digest) = 32),
    tenant_id         text NOT NULL,
    user_id           text NOT NULL,
    methods           text[] NOT NULL,
    address           text NOT NULL,
    agent             text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    seen_at           timestamptz NOT NULL DEFAULT now(),
    authenticated_at  timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz NOT NULL,
    ended_at          timestamptz,
    ended_by          text CHECK (ended_by IN ('logout', 'revoked', 'replaced', 'password', 'disabled')),
    CONSTRAINT sessions_member_fkey FOREIGN KEY (tenant_id, user_id)
        REFERENCES platform.memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX sessions_user_idx ON platform.sessions (user_id, created_at);

ALTER TABLE platform.sessions ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON platform.sessions TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));

-- A tenant's scope sees and ends its members' sessions, and reads no digest.
GRANT SELECT (id, tenant_id, user_id, methods, address, agent, created_at, seen_at, authenticated_at, expires_at,
    ended_at, ended_by), UPDATE (ended_at, ended_by) ON platform.sessions TO platform_app;
GRANT SELECT (language, time_zone, last_login_at) ON platform.users TO platform_app;
