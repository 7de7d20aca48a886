-- In a transaction of its own: it reads every key, and whoever writes keys meanwhile does not wait.

-- migrate:up

ALTER TABLE platform.api_keys VALIDATE CONSTRAINT api_keys_account_fkey;
ALTER TABLE platform.api_keys VALIDATE CONSTRAINT api_keys_one_owner;
