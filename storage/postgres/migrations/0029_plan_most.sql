-- How many keys, webhooks and other things a tenant on the plan may have.

-- migrate:up

ALTER TABLE platform.plans ADD COLUMN most jsonb NOT NULL DEFAULT '{}';
