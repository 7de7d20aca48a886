#!/bin/sh
# Runs once, when the data directory is made. The gateway's own role owns the schema `platform` and nothing else: it is no
# superuser, and it can neither read nor touch what other services keep in the database `tahoe`.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/gateway_database_password`
CREATE ROLE gateway LOGIN PASSWORD :'password';
CREATE ROLE platform_app NOLOGIN;
GRANT platform_app TO gateway;
CREATE SCHEMA platform AUTHORIZATION gateway;
SQL
