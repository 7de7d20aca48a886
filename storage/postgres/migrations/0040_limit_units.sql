-- A limit is shown in the unit in which it was written: 100m of audio, not 6000s.

-- migrate:up

-- unit: empty where it has none, and for older rows, which are shown in one that fits.
ALTER TABLE platform.limits ADD COLUMN unit text NOT NULL DEFAULT '';
GRANT UPDATE (unit) ON platform.limits TO platform_app;
