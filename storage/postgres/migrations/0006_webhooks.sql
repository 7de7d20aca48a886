-- Where a tenant's events are sent, and each sending until it arrived or was given up.

-- migrate:up

-- '' as tenant: the operator's own, for the events of every tenant.
CREATE TABLE platform.webhooks (
    id            text PRIMARY KEY CHECK (id LIKE 'whk\_%'),
    tenant_id     text COLLATE "C" NOT NULL,
    url           text NOT NULL,
    description   text NOT NULL,
    events        text[] NOT NULL,
    secret        bytea NOT NULL,
    old_secret    bytea,
    old_until     timestamptz,
    enabled       boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_tenant_id_idx ON platform.webhooks (tenant_id, id);
COMMENT ON COLUMN platform.webhooks.secret IS 'sealed; the key is in no database';

CREATE TABLE platform.deliveries (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     text COLLATE "C" NOT NULL,
    webhook_id    text NOT NULL REFERENCES platform.webhooks ON DELETE CASCADE,
    event_id      text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    body          text NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts      integer NOT NULL DEFAULT 0,
    next_at       timestamptz NOT NULL DEFAULT now(),
    status        integer,
    trouble       text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    CONSTRAINT deliveries_once UNIQUE (webhook_id, event_id)
);
CREATE INDEX deliveries_due_idx ON platform.deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_webhook_idx ON platform.deliveries (webhook_id, id);

ALTER TABLE platform.webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.webhooks TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
CREATE POLICY tenant ON platform.deliveries TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
GRANT SELECT (id, tenant_id, url, description, events, enabled, created_at), INSERT, DELETE,
    UPDATE (url, description, events, secret, old_secret, old_until, enabled) ON platform.webhooks TO platform_app;
GRANT SELECT, UPDATE (state, next_at, attempts, ended_at) ON platform.deliveries TO platform_app;
