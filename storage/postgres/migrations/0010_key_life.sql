-- What a key is bound to beside its scopes, whether it rests, and when it was used last.

-- migrate:up

ALTER TABLE platform.api_keys
    ADD COLUMN disabled_at  timestamptz,
    ADD COLUMN networks     text[] NOT NULL DEFAULT '{}',
    ADD COLUMN routes       text[] COLLATE "C" NOT NULL DEFAULT '{}',
    ADD COLUMN metadata     text NOT NULL DEFAULT '{}';
COMMENT ON COLUMN platform.api_keys.networks IS 'whence it may be used; none: from everywhere';
COMMENT ON COLUMN platform.api_keys.routes IS 'where it may be used, by route name; none: wherever its scopes allow';

-- A table of its own: it changes all the time, and keys hardly ever.
CREATE TABLE platform.key_uses (
    key_id     text PRIMARY KEY,
    tenant_id  text COLLATE "C" NOT NULL,
    used_at    timestamptz NOT NULL,
    address    text NOT NULL,
    agent      text NOT NULL,
    CONSTRAINT key_uses_key_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES platform.api_keys (tenant_id, id)
        ON DELETE CASCADE
) WITH (fillfactor = 70);

ALTER TABLE platform.key_uses ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.key_uses TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
GRANT SELECT ON platform.key_uses TO platform_app;
GRANT SELECT (disabled_at, networks, routes, metadata), UPDATE (disabled_at, networks, routes, metadata, scopes)
    ON platform.api_keys TO platform_app;
