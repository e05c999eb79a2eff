#!/bin/sh
# How every container of ours begins: the database's password goes from its secret into PGPASSWORD, where libpq looks
# for it. So the addresses of databases need none, and whatever shows an address or a command line shows no password.
set -eu

secret="${POSTGRES_PASSWORD_FILE:-}"
if [ -n "$secret" ]; then
    if [ ! -s "$secret" ] || [ ! -r "$secret" ]; then
        echo "entrypoint: $secret is missing, empty or not readable by user $(id -u); see docker/README.md" >&2
        exit 2
    fi
    PGPASSWORD="$(cat "$secret")"
    export PGPASSWORD
fi

exec "$@"
