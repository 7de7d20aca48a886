-- The sums say how much audio they lack: of how many requests and jobs nobody told the length.

-- migrate:up

ALTER TABLE platform.usage_hourly ADD COLUMN unmeasured bigint NOT NULL DEFAULT 0;
ALTER TABLE platform.usage_daily ADD COLUMN unmeasured bigint NOT NULL DEFAULT 0;

-- What there are raw records of, so that the books agree.
UPDATE platform.usage_hourly AS book SET unmeasured = found.records
FROM (
    SELECT date_trunc('hour', ended_at, 'UTC') AS bucket, tenant_id, key_id, user_id, route, outcome, model,
        count(*) AS records
    FROM platform.usage_events WHERE source = 'unmeasured' GROUP BY 1, 2, 3, 4, 5, 6, 7
) AS found
WHERE (book.bucket, book.tenant_id, book.key_id, book.user_id, book.route, book.outcome, book.model)
    = (found.bucket, found.tenant_id, found.key_id, found.user_id, found.route, found.outcome, found.model);
UPDATE platform.usage_daily AS book SET unmeasured = found.records
FROM (
    SELECT date_trunc('day', bucket, 'UTC') AS bucket, tenant_id, key_id, user_id, route, outcome, model,
        sum(unmeasured) AS records
    FROM platform.usage_hourly WHERE unmeasured > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7
) AS found
WHERE (book.bucket, book.tenant_id, book.key_id, book.user_id, book.route, book.outcome, book.model)
    = (found.bucket, found.tenant_id, found.key_id, found.user_id, found.route, found.outcome, found.model);
