-- The account: raw records by day, their roll-ups by hour and by day, and how far each journal has been shipped.
-- All of them change in one transaction (storage/postgres/usage.py).

-- migrate:up

-- A position is all that makes shipping exactly-once: the row's lock admits one shipper at a time, and the rows between
-- two positions and the move from one to the other commit or vanish together. So usage_events needs no unique index,
-- which would cost more than the rest of the insert, could not span partitions without the day in it, and would hide a
-- fault that `gateway usage reconcile` finds by counting event ids.
-- Rows are never removed: a journal that an operator copies back after years must still be known as shipped.
CREATE TABLE platform.journals (
    journal_id        text PRIMARY KEY,
    position          bigint NOT NULL,
    records           bigint NOT NULL,
    first_shipped_at  timestamptz NOT NULL DEFAULT now(),
    last_shipped_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN platform.journals.position IS 'segment number * 2^32 + offset in the segment';

-- Names and meanings are those of policies/usage.py. Absent ids are '', so that roll-ups can have them in a key.
-- No foreign keys: the account outlives the tenants, users and keys that it names.
CREATE TABLE platform.usage_events (
    ended_at         timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    audio_ms         bigint NOT NULL,
    bytes_in         bigint NOT NULL,
    bytes_out        bigint NOT NULL,
    duration_us      bigint NOT NULL,
    upstream_us      bigint NOT NULL,
    walked_ms        bigint,
    reported_ms      bigint,
    estimated_ms     bigint,
    status           integer NOT NULL,
    attempt          integer NOT NULL,
    channels         integer,
    encoding         smallint NOT NULL,
    discrepant       boolean NOT NULL,
    tenant_id        text COLLATE "C" NOT NULL,
    key_id           text COLLATE "C" NOT NULL,
    user_id          text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    event_id         text COLLATE "C" NOT NULL,
    method           text NOT NULL,
    code             text NOT NULL,
    request_id       text NOT NULL,
    source           text NOT NULL,
    container        text NOT NULL,
    codec            text NOT NULL,
    model            text NOT NULL,
    language         text NOT NULL,
    response_format  text NOT NULL
) PARTITION BY RANGE (ended_at);

-- Records arrive nearly in the order of time, which is what BRIN needs; it costs the insert next to nothing. Small
-- ranges, because the questions asked of raw records are about minutes: the rest is answered by the roll-ups.
CREATE INDEX usage_events_ended_at_idx ON platform.usage_events USING brin (ended_at)
    WITH (pages_per_range = 32, autosummarize = on);

-- fillfactor: the current buckets change several times a second, and room on the page keeps those updates HOT.
CREATE TABLE platform.usage_hourly (
    bucket       timestamptz NOT NULL,
    requests     bigint NOT NULL,
    errors       bigint NOT NULL,
    denied       bigint NOT NULL,
    audio_ms     bigint NOT NULL,
    bytes_in     bigint NOT NULL,
    bytes_out    bigint NOT NULL,
    duration_us  bigint NOT NULL,
    upstream_us  bigint NOT NULL,
    tenant_id    text COLLATE "C" NOT NULL,
    key_id       text COLLATE "C" NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    route        text COLLATE "C" NOT NULL,
    outcome      text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, bucket, key_id, user_id, route, outcome)
) WITH (fillfactor = 70);

-- Each bucket is a UTC day.
CREATE TABLE platform.usage_daily (LIKE platform.usage_hourly INCLUDING ALL) WITH (fillfactor = 70);

ALTER TABLE platform.usage_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.usage_hourly ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.usage_daily ENABLE ROW LEVEL SECURITY;

-- nullif: once a session has set the tenant for a transaction, the setting is '' and not NULL afterwards, and '' is
-- what records of unidentified callers have for a tenant.
CREATE POLICY tenant ON platform.usage_events TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
CREATE POLICY tenant ON platform.usage_hourly TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
CREATE POLICY tenant ON platform.usage_daily TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));

-- A tenant's scope reads its account and never writes it; the shipper is the owner.
GRANT SELECT ON platform.usage_events, platform.usage_hourly, platform.usage_daily TO platform_app;

-- Makes the partition of a UTC day unless it is there.
-- CREATE TABLE … PARTITION OF would lock all of usage_events against its readers, and first wait for a long export to
-- end; ATTACH keeps only other changes of the table out. The parent's row-level security does not bind those who name a
-- partition itself, so each has its own, without a policy: nobody but the owner reads it directly.
CREATE FUNCTION platform.make_usage_day(day date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $$
DECLARE
    name text := 'usage_events_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass('platform.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Two shippers may meet a new day at once. ATTACH takes this lock anyway, and taking it forgets what the session
    -- knew to be missing: an advisory lock would let to_regclass answer from that memory.
    LOCK TABLE platform.usage_events IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass('platform.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE platform.%I (LIKE platform.usage_events INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format(
        'ALTER TABLE platform.usage_events ATTACH PARTITION platform.%I FOR VALUES FROM (%L) TO (%L)',
        name, day::timestamptz, (day + 1)::timestamptz
    );
END
$$;
REVOKE EXECUTE ON FUNCTION platform.make_usage_day FROM PUBLIC;
