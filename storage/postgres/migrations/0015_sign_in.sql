-- Ways to sign in beside a password: accounts at other providers, passkeys, browsers that are trusted; and who must give
-- a second factor.

-- migrate:up

-- An account elsewhere, by issuer and subject (OpenID Connect Core section 2): an address there may change hands.
CREATE TABLE platform.identities (
    issuer        text NOT NULL,
    subject       text NOT NULL,
    user_id       text NOT NULL REFERENCES platform.users ON DELETE CASCADE,
    provider      text NOT NULL,
    email         text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz,
    CONSTRAINT identities_pkey PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_user_idx ON platform.identities (user_id);

CREATE TABLE platform.passkeys (
    id            text PRIMARY KEY CHECK (id LIKE 'psk\_%'),
    credential    bytea NOT NULL CONSTRAINT passkeys_credential_key UNIQUE
                  CHECK (octet_length(credential) BETWEEN 1 AND 1023),
    user_id       text NOT NULL REFERENCES platform.users ON DELETE CASCADE,
    public_key    bytea NOT NULL,
    sign_count    bigint NOT NULL,
    transports    text[] NOT NULL,
    synced        boolean NOT NULL,
    name          text NOT NULL CHECK (name <> ''),
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE INDEX passkeys_user_idx ON platform.passkeys (user_id);

-- A browser in which the second factor is not asked for again.
CREATE TABLE platform.trusted_browsers (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    user_id     text NOT NULL REFERENCES platform.users ON DELETE CASCADE,
    agent       text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX trusted_browsers_user_idx ON platform.trusted_browsers (user_id);

-- They are the person's own: in the operator's scope alone, like links and codes.
ALTER TABLE platform.identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.passkeys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.trusted_browsers ENABLE ROW LEVEL SECURITY;

-- The roles whose members sign in with two factors.
ALTER TABLE platform.tenants ADD COLUMN second_factor_for text[] NOT NULL DEFAULT '{}'
    CHECK (second_factor_for <@ ARRAY['owner', 'admin', 'member', 'viewer']);
GRANT UPDATE (second_factor_for) ON platform.tenants TO platform_app;
