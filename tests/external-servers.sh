#!/bin/sh
# The storage suite against an external PostgreSQL and Redis given by URL: Debian's, on sockets in a temporary folder.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
work=$(mktemp -d)
chmod 755 "$work"
trap 'kill $postgres $redis 2>/dev/null || true; wait; rm -rf "$work"' EXIT
as=""
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
$as "$bin/initdb" -D "$work/pg" -U gateway -A trust -E UTF8 --no-sync >/dev/null
$as "$bin/postgres" -D "$work/pg" -k "$work" -c listen_addresses= -c fsync=off -c max_connections=200 >"$work/pg.log" 2>&1 &
postgres=$!
redis-server --port 0 --unixsocket "$work/redis.sock" --save "" --dir "$work" >"$work/redis.log" 2>&1 &
redis=$!
until [ -S "$work/.s.PGSQL.5432" ] && [ -S "$work/redis.sock" ]; do sleep 0.1; done
TEST_DATABASE_URL="postgresql://gateway@/postgres?host=$work" TEST_REDIS_URL="unix://$work/redis.sock" \
    make test JOBS=0 TESTS="tests/storage --deselect tests/storage/embedded"  # the servers are shared: one at a time
