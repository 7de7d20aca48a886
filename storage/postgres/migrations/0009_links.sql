-- What is mailed or printed, and works once: invitations, links to a person, recovery codes.

-- migrate:up

CREATE TABLE platform.invitations (
    id           text PRIMARY KEY CHECK (id LIKE 'inv\_%'),
    tenant_id    text NOT NULL CONSTRAINT invitations_tenant_fkey REFERENCES platform.tenants,
    email        text COLLATE "C" NOT NULL,
    role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'service')),
    digest       bytea NOT NULL CONSTRAINT invitations_digest_key UNIQUE CHECK (octet_length(digest) = 32),
    invited_by   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    sent_at      timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    accepted_at  timestamptz,
    accepted_by  text,
    revoked_at   timestamptz
);
-- Of one address and tenant one at most is open; an expired one is open too, until it is sent again or revoked.
CREATE UNIQUE INDEX invitations_open_key ON platform.invitations (tenant_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;

-- Links that were mailed to a person and work once: 'reset' of a password; 'email_old' and 'email_new', the two halves
-- of a change of address, which share a pair and carry the new address.
CREATE TABLE platform.one_time_links (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    purpose     text NOT NULL CHECK (purpose IN ('reset', 'email_old', 'email_new')),
    user_id     text NOT NULL REFERENCES platform.users ON DELETE CASCADE,
    pair        text,
    email       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);
CREATE INDEX one_time_links_user_idx ON platform.one_time_links (user_id);

CREATE TABLE platform.recovery_codes (
    user_id  text NOT NULL REFERENCES platform.users ON DELETE CASCADE,
    digest   bytea NOT NULL CHECK (octet_length(digest) = 32),
    used_at  timestamptz,
    PRIMARY KEY (user_id, digest)
);

ALTER TABLE platform.invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.one_time_links ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.recovery_codes ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON platform.invitations TO platform_app
    USING (tenant_id = current_setting('platform.tenant', true));

-- A tenant's scope keeps its invitations and reads no digest. Links and codes are the person's own, and so the
-- operator's to look up.
GRANT SELECT (id, tenant_id, email, role, invited_by, created_at, sent_at, expires_at, accepted_at, accepted_by,
    revoked_at), INSERT, UPDATE (digest, role, sent_at, expires_at, revoked_at) ON platform.invitations TO platform_app;
