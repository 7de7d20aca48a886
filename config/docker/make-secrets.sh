#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, those that are missing, in the folder $1 (default: .state/secrets).
#
# The folder is for its owner alone; the files in it are readable, because inside a container the file keeps its mode and
# is read by that container's own user. Replace any of them by your own, then start the services again.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-.state/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"
umask 022

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# $1 name; the content comes from standard input. Complete or not there: an interrupted run leaves no empty secret.
keep() {
    cat >"$1.making"
    mv "$1.making" "$1"
}

[ -s secret_key ] || random | keep secret_key
[ -s postgres_password ] || random | keep postgres_password
[ -s gateway_database_password ] || random | keep gateway_database_password
[ -s database_url ] || printf 'postgresql://gateway:%s@postgres:5432/tahoe' "$(cat gateway_database_password)" | keep database_url
[ -s valkey_auth ] || printf 'requirepass %s\n' "$(random)" | keep valkey_auth
[ -s redis_url ] || printf 'redis://:%s@valkey:6379/0' "$(cut -d ' ' -f 2 valkey_auth)" | keep redis_url
[ -s grafana_password ] || random | keep grafana_password

# For the profile `edge`: a certificate that no browser trusts, until yours takes its place.
if [ ! -s tls.crt ] || [ ! -s tls.key ]; then
    if command -v openssl >/dev/null; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
            -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout tls.key -out tls.crt 2>/dev/null
        chmod 644 tls.key
    else
        echo "openssl is missing: put tls.crt and tls.key into $folder before you start the profile edge." >&2
    fi
fi
