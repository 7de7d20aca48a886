-- Whence a program signed in, and what it calls itself: its person tells one from another by it. Empty for older ones.

-- migrate:up

ALTER TABLE platform.refresh_families
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN agent text NOT NULL DEFAULT '';

GRANT SELECT (address, agent) ON platform.refresh_families TO platform_app;
