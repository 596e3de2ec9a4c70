#!/bin/bash
# What the official images' entry points do, as far as docker-compose.yaml relies on it.
set -euo pipefail

start_postgres() {
    local data=/var/lib/postgresql/data programs
    programs=$(echo /usr/lib/postgresql/*/bin)
    mkdir -p "$data" /run/postgresql
    chown -R postgres: "$data" /run/postgresql
    if [ ! -e "$data/PG_VERSION" ]; then
        install -m 600 -o postgres /dev/stdin /run/postgresql/password <<<"$POSTGRES_PASSWORD"
        as_postgres "$programs/initdb" --no-sync --locale=C.UTF-8 --auth=scram-sha-256 --username="$POSTGRES_USER" \
            --pwfile=/run/postgresql/password --pgdata="$data" >/dev/null
        echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
        if [ "$POSTGRES_DB" != postgres ]; then
            echo "CREATE DATABASE \"$POSTGRES_DB\"" | as_postgres "$programs/postgres" --single -D "$data" postgres >/dev/null
        fi
    fi
    exec setpriv --reuid=postgres --regid=postgres --init-groups \
        "$programs/postgres" -D "$data" -c listen_addresses='*' -c fsync=off
}

as_postgres() {
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
}

case $1 in
postgres) start_postgres ;;
redis-server) exec "$@" ;;
rabbitmq-server)
    chown -R rabbitmq: /var/lib/rabbitmq
    exec "$@"
    ;;
localstack) exec python -m localstack.runtime.main ;;
*)
    echo "unknown: $1" >&2
    exit 2
    ;;
esac
