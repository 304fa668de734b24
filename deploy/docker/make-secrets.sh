#!/bin/sh
# Random passwords for docker-compose.yml, as files in the directory `secrets` beside this script. What is there stays.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
# Compose mounts each file as it is, for users that this machine does not know: the directory is what protects them.
chmod 700 secrets
umask 022

secret() { # NAME: the content of secrets/NAME, made if it is not there
    test -s "secrets/$1" || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$1"
    cat "secrets/$1"
}

printf 'postgresql://monitor:%s@postgres/monitor' "$(secret postgres-password)" >secrets/postgres-dsn
user=$(secret minio-user) password=$(secret minio-password)
printf 'minio:\n  accessKeyID: "%s"\n  secretAccessKey: "%s"\n' "$user" "$password" >secrets/milvus-user.yaml
secret http-token >/dev/null
secret grafana-password >/dev/null
