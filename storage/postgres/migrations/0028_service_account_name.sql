-- A service account can be called something else.

-- migrate:up

GRANT UPDATE (name) ON platform.service_accounts TO platform_app;
