-- The audit trail, chained per tenant (policies/audit.py), and the events that leave with each change.
-- Both are written in the transaction of the change that they tell of: no trace, no change.

-- migrate:up

-- '' is the platform's own chain. No foreign keys: the trail outlives what it names.
CREATE TABLE platform.audit_entries (
    tenant_id    text COLLATE "C" NOT NULL,
    sequence     bigint NOT NULL CHECK (sequence > 0),
    at           timestamptz NOT NULL,
    actor_kind   text NOT NULL,
    actor_id     text COLLATE "C" NOT NULL,
    actor_name   text NOT NULL,
    address      text NOT NULL,
    agent        text NOT NULL,
    request_id   text NOT NULL,
    action       text COLLATE "C" NOT NULL,
    target       text COLLATE "C" NOT NULL,
    target_name  text NOT NULL,
    before       text,
    after        text,
    link         bytea NOT NULL CHECK (octet_length(link) = 32),
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX audit_entries_target_idx ON platform.audit_entries (tenant_id, target, sequence);
COMMENT ON COLUMN platform.audit_entries.before IS 'canonical JSON, kept as text: its bytes are part of the chain';

-- The last link of each chain, and where the chain begins once older entries were removed by retention.
CREATE TABLE platform.audit_heads (
    tenant_id       text COLLATE "C" PRIMARY KEY,
    sequence        bigint NOT NULL,
    link            bytea NOT NULL CHECK (octet_length(link) = 32),
    start_sequence  bigint NOT NULL DEFAULT 0,
    start_link      bytea NOT NULL CHECK (octet_length(start_link) = 32),
    start_seal      bytea
);
COMMENT ON COLUMN platform.audit_heads.start_seal IS 'HMAC over the start: who cannot make it cannot cut the chain';

-- What happened, for others: read in order, published, marked. Rows leave after their retention.
CREATE TABLE platform.outbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      text COLLATE "C" NOT NULL CONSTRAINT outbox_event_id_key UNIQUE,
    tenant_id     text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    subject       text NOT NULL,
    at            timestamptz NOT NULL,
    data          text NOT NULL,
    published_at  timestamptz
);
CREATE INDEX outbox_unpublished_idx ON platform.outbox (id) WHERE published_at IS NULL;

ALTER TABLE platform.audit_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.outbox ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON platform.audit_entries TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
CREATE POLICY tenant ON platform.audit_heads TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
CREATE POLICY tenant ON platform.outbox TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));

-- A tenant's scope adds to its trail and reads it; it cannot change or remove an entry.
GRANT SELECT, INSERT ON platform.audit_entries TO platform_app;
GRANT SELECT, INSERT, UPDATE (sequence, link) ON platform.audit_heads TO platform_app;
GRANT INSERT ON platform.outbox TO platform_app;
