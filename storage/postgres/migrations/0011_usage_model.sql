-- The roll-ups tell models apart. What was summed up before counts as no model's.

-- migrate:up

ALTER TABLE platform.usage_hourly ADD COLUMN model text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE platform.usage_hourly DROP CONSTRAINT usage_hourly_pkey;
ALTER TABLE platform.usage_hourly ADD CONSTRAINT usage_hourly_pkey
    PRIMARY KEY (tenant_id, bucket, key_id, user_id, route, outcome, model);

ALTER TABLE platform.usage_daily ADD COLUMN model text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE platform.usage_daily DROP CONSTRAINT usage_daily_pkey;
ALTER TABLE platform.usage_daily ADD CONSTRAINT usage_daily_pkey
    PRIMARY KEY (tenant_id, bucket, key_id, user_id, route, outcome, model);
