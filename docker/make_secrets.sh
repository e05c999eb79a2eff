#!/bin/sh
# Make the secrets that compose.yaml mounts, in docker/secrets: random words that nobody has to know. A secret that is
# there stays, as databases keep the password that they were made with.
set -eu

folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
chmod 700 "$folder"
umask 022 # containers run as other users and must read the files; the folder keeps others on this machine out

for name in postgres_password s3_secret_key mlflow_admin_password mlflow_password mlflow_secret_key ray_token; do
    file="$folder/$name"
    if [ ! -e "$file" ]; then
        od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n' > "$file.new"
        mv "$file.new" "$file"
        echo "made $file"
    fi
done
