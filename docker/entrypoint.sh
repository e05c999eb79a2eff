#!/bin/sh
# How every container of ours begins: passwords go from the secrets that are mounted as files into the variables where
# PostgreSQL's library, MLflow and S3's clients look for them. So the addresses of services need none, and whatever
# shows an address or a command line shows no password.
set -eu

# Export the content of the file $2, if one is named, as the variable $1.
from_file() {
    if [ -z "$2" ]; then
        return
    fi
    if [ ! -s "$2" ] || [ ! -r "$2" ]; then
        echo "entrypoint: $2 is missing, empty or not readable by user $(id -u); see docker/README.md" >&2
        exit 2
    fi
    content="$(cat "$2")"
    export "$1=$content"
}

from_file PGPASSWORD "${POSTGRES_PASSWORD_FILE:-}"
from_file AWS_SECRET_ACCESS_KEY "${AWS_SECRET_ACCESS_KEY_FILE:-}"
from_file MLFLOW_AUTH_ADMIN_PASSWORD "${MLFLOW_AUTH_ADMIN_PASSWORD_FILE:-}"
from_file MLFLOW_FLASK_SERVER_SECRET_KEY "${MLFLOW_FLASK_SERVER_SECRET_KEY_FILE:-}"
from_file MLFLOW_TRACKING_PASSWORD "${MLFLOW_TRACKING_PASSWORD_FILE:-}"

exec "$@"
