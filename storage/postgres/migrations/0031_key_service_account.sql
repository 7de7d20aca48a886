-- A service account as the owner of keys, instead of a member.

-- migrate:up

ALTER TABLE platform.api_keys
    ADD COLUMN service_account_id text,
    ADD CONSTRAINT api_keys_account_fkey FOREIGN KEY (tenant_id, service_account_id)
        REFERENCES platform.service_accounts (tenant_id, id) NOT VALID,
    ADD CONSTRAINT api_keys_one_owner CHECK (user_id IS NULL OR service_account_id IS NULL) NOT VALID;

GRANT SELECT (service_account_id) ON platform.api_keys TO platform_app;
