#!/bin/sh
# Unpack Debian's nginx into the folder $1, without installing it and without root. The tests that need nginx find it there.
set -eu
mkdir -p "$1"
cd "$1"
if ! apt-get download nginx >/dev/null 2>&1; then
    apt-get update >/dev/null 2>&1 || true
    apt-get download nginx >/dev/null 2>&1 || {
        echo "nginx is not installed and Debian's package cannot be fetched; the tests that need it will fail." >&2
        echo "Install it with: apt-get install nginx" >&2
        exit 0
    }
fi
dpkg-deb -x nginx_*.deb .
rm nginx_*.deb
