-- Operators, custom roles, and creations that may be repeated.

-- migrate:up

-- Across tenants; set by a command on the gateway's machine and by other operators, never by a tenant.
ALTER TABLE platform.users ADD COLUMN operator boolean NOT NULL DEFAULT false;

-- A tenant's own roles. Those of policies/permissions.py are in no table.
CREATE TABLE platform.roles (
    tenant_id    text NOT NULL CONSTRAINT roles_tenant_fkey REFERENCES platform.tenants,
    name         text COLLATE "C" NOT NULL CHECK (name <> ''),
    description  text NOT NULL,
    permissions  text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_pkey PRIMARY KEY (tenant_id, name)
);

-- With one, a member's permissions are the custom role's, and "role" is what they fall back to.
ALTER TABLE platform.memberships
    ADD COLUMN custom_role text,
    ADD CONSTRAINT memberships_custom_role_fkey FOREIGN KEY (tenant_id, custom_role) REFERENCES platform.roles;

-- Bodies are encrypted; the key of each is the idempotency key, of which there is only the hash here.
CREATE TABLE platform.idempotency (
    key_hash     bytea PRIMARY KEY CHECK (octet_length(key_hash) = 32),
    fingerprint  bytea NOT NULL,
    begun_at     timestamptz NOT NULL DEFAULT now(),
    status       integer,
    body         bytea
);
CREATE INDEX idempotency_begun_at_idx ON platform.idempotency (begun_at);

ALTER TABLE platform.roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.roles TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
GRANT SELECT, INSERT, UPDATE (description, permissions), DELETE ON platform.roles TO platform_app;
GRANT UPDATE (role, custom_role), DELETE ON platform.memberships TO platform_app;
GRANT UPDATE (name) ON platform.api_keys TO platform_app;
GRANT UPDATE (name) ON platform.tenants TO platform_app;
