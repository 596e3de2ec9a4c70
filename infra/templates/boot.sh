# shellcheck shell=bash
# Makes a K3s node of an instance of Amazon Linux 2023. It stays there as `pixtools-node`; on servers a timer runs
# `pixtools-node upkeep` every minute.
#
# Nothing in here is secret: tokens and passwords come from Secrets Manager, by the role of the instance.
set -euo pipefail

ROOT=${ROOT:-} # tests install into a folder
CONFIG=$ROOT/etc/rancher/k3s
MANIFESTS=$ROOT/var/lib/rancher/k3s/server/manifests/pixtools
UNITS=$ROOT/etc/systemd/system
K3S=$ROOT/usr/local/bin/k3s
PAUSE=${PAUSE:-5} # seconds between two attempts

main() {
    export AWS_DEFAULT_REGION=$REGION AWS_RETRY_MODE=standard AWS_MAX_ATTEMPTS=10
    umask 077
    case ${1:-boot} in
    boot) boot ;;
    upkeep) upkeep ;;
    *) fail "pixtools-node boot | upkeep" ;;
    esac
}

boot() {
    trap report EXIT
    look_at_instance
    mkdir -p "$CONFIG" "$MANIFESTS" "$UNITS" "$ROOT/usr/local/bin" "$ROOT/usr/local/sbin"
    install -m 700 "${BASH_SOURCE[0]}" "$ROOT/usr/local/sbin/pixtools-node"
    install_k3s
    if [ "$NODE_CLASS" = server ]; then boot_server; else boot_agent; fi
}

# The group waits for this: a node that does not work is replaced, and counts as capacity not before it does.
report() {
    local status=$? result=CONTINUE
    if [ "$status" -ne 0 ]; then result=ABANDON; fi
    retry 60 aws autoscaling complete-lifecycle-action --lifecycle-hook-name boot \
        --auto-scaling-group-name "$CLUSTER-$NODE_CLASS" --instance-id "${instance:-unknown}" \
        --lifecycle-action-result "$result" || true
    exit "$status"
}

fail() {
    echo "pixtools-node: $*" >&2
    exit 1
}

# retry SECONDS COMMAND...: until it succeeds, or for so long
retry() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then return 1; fi
        sleep "$PAUSE"
    done
}

download() { curl --fail --silent --show-error --location --retry 10 --retry-connrefused --proto =https --output "$1" "$2"; }

secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

parameter() { aws ssm get-parameter --name "/$CLUSTER/$1" --query Parameter.Value --output text; }

metadata() {
    curl --fail --silent --show-error --retry 10 --retry-connrefused --max-time 5 \
        --header "X-aws-ec2-metadata-token: $metadata_token" "http://169.254.169.254/latest/meta-data/$1"
}

look_at_instance() {
    metadata_token=$(curl --fail --silent --show-error --retry 10 --retry-connrefused --max-time 5 --request PUT \
        --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token)
    instance=$(metadata instance-id)
    zone=$(metadata placement/availability-zone)
    address=$(metadata local-ipv4)
    # The name that the termination handler knows the instance by.
    node=$(metadata local-hostname)
    node=${node%% *}
}

install_k3s() {
    download "$K3S.new" "https://github.com/k3s-io/k3s/releases/download/${K3S_VERSION/+/%2B}/$K3S_BINARY"
    sha256sum --check --status <<<"$K3S_SHA256  $K3S.new" || fail "the download of K3s $K3S_VERSION has another checksum"
    chmod 755 "$K3S.new"
    mv "$K3S.new" "$K3S"
    ln -sf k3s "$ROOT/usr/local/bin/kubectl"
}

# What servers and agents have in common: the cluster autoscaler knows nodes by their provider id.
common_config() {
    cat <<YAML
node-name: $node
node-ip: $address
node-label:
  - pixtools.io/node-class=$NODE_CLASS
kubelet-arg:
  - provider-id=aws:///$zone/$instance
prefer-bundled-bin: true
YAML
}

start_k3s() {
    cat >"$UNITS/k3s.service" <<UNIT
[Unit]
Description=K3s $1
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s $1
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --now k3s.service
}

################################################################################
# Agents
################################################################################

boot_agent() {
    local server token
    retry 600 save_agent_token
    server=$(parameter api-address)
    token=$(<"$CONFIG/agent-token")
    {
        echo "server: https://$server:6443"
        echo "token: $token"
        common_config
        echo "node-taint:"
        echo "  - pixtools.io/spot=true:NoSchedule"
    } >"$CONFIG/config.yaml"
    start_k3s agent
}

# It has none before the first server has started.
save_agent_token() { secret "$CLUSTER/agent-token" >"$CONFIG/agent-token"; }

################################################################################
# Servers
################################################################################

boot_server() {
    local name
    dnf install --quiet --assumeyes postgresql16 jq
    download "$CONFIG/database-ca.pem" "https://truststore.pki.rds.amazonaws.com/$REGION/$REGION-bundle.pem"
    for name in server-token agent-token database-k3s database-pixtools; do fill_secret "$CLUSTER/$name"; done
    create_databases
    sync_addons
    write_server_config
    start_k3s server
    retry 300 "$K3S" kubectl get --raw /readyz >/dev/null
    start_upkeep
}

# Under one request token Secrets Manager keeps the first value, whichever server it comes from, and refuses others.
fill_secret() {
    if secret "$1" >/dev/null 2>&1; then return; fi
    random | aws secretsmanager put-secret-value --secret-id "$1" --client-request-token 00000000-0000-0000-0000-000000000001 \
        --secret-string file:///dev/stdin >/dev/null || echo "pixtools-node: another server has filled $1" >&2
    secret "$1" >/dev/null
}

# 256 bits of letters and digits, which mean nothing to URLs, YAML and SQL
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

create_databases() {
    local secret_id administrator
    secret_id=$(parameter database-administrator)
    administrator=$(secret "$secret_id")
    PGHOST=$(parameter database-address)
    PGPASSWORD=$(jq --raw-output .password <<<"$administrator")
    PGUSER=$(jq --raw-output .username <<<"$administrator")
    export PGHOST PGUSER PGPASSWORD PGDATABASE=postgres PGSSLMODE=verify-full PGSSLROOTCERT=$CONFIG/database-ca.pem
    create_database k3s
    create_database pixtools
    unset PGUSER PGPASSWORD
}

# A role and a database of this name, which no other role may enter. Servers that start together take turns.
create_database() {
    local password
    password=$(secret "$CLUSTER/database-$1")
    ROLE_PASSWORD=$password psql --quiet --no-psqlrc --tuples-only --set=ON_ERROR_STOP=1 \
        --set="role=$1" <<'SQL' >/dev/null
\getenv password ROLE_PASSWORD
SELECT pg_advisory_lock(7491);
SELECT format('CREATE ROLE %I LOGIN', :'role')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'role', :'password') \gexec
SELECT format('GRANT %I TO CURRENT_USER', :'role') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'role', :'role')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'role') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'role') \gexec
SQL
}

write_server_config() {
    local token agent_token password balancer
    token=$(secret "$CLUSTER/server-token")
    agent_token=$(secret "$CLUSTER/agent-token")
    password=$(secret "$CLUSTER/database-k3s")
    balancer=$(parameter api-address)
    {
        echo "token: $token"
        echo "agent-token: $agent_token"
        echo "datastore-endpoint: postgres://k3s:$password@$PGHOST:5432/k3s?sslmode=verify-full"
        echo "datastore-cafile: $CONFIG/database-ca.pem"
        echo "tls-san:"
        echo "  - $balancer"
        echo "secrets-encryption: true"
        common_config
    } >"$CONFIG/config.yaml"
}

start_upkeep() {
    cat >"$UNITS/pixtools-upkeep.service" <<'UNIT'
[Unit]
Description=Apply new addons and forget nodes that are gone

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/pixtools-node upkeep
TimeoutStartSec=120
UNIT
    cat >"$UNITS/pixtools-upkeep.timer" <<'UNIT'
[Timer]
OnActiveSec=1min
OnUnitInactiveSec=1min

[Install]
WantedBy=timers.target
UNIT
    systemctl daemon-reload
    systemctl enable --now pixtools-upkeep.timer
}

################################################################################
# Every minute, on servers
################################################################################

upkeep() {
    sync_addons
    forget_gone_nodes
}

# K3s applies whatever appears or changes in this folder.
sync_addons() {
    local bucket
    bucket=$(parameter manifest-bucket)
    aws s3 sync --delete --only-show-errors "s3://$bucket/addons/" "$MANIFESTS/"
}

# K3s keeps a node whose instance is gone, and with it pods that nobody can end.
forget_gone_nodes() {
    local node id
    while read -r node id; do
        if is_gone "$id"; then "$K3S" kubectl delete node "$node" --ignore-not-found --wait=false; fi
    done < <("$K3S" kubectl get nodes --output json | jq --raw-output '.items[]
        | select(any(.status.conditions[]?; .type == "Ready" and .status != "True"))
        | select(.spec.providerID // "" | startswith("aws:///"))
        | "\(.metadata.name) \(.spec.providerID | split("/") | last)"')
}

# Not on an error: who cannot ask knows nothing.
is_gone() {
    local state
    state=$(aws ec2 describe-instances --filters "Name=instance-id,Values=$1" \
        --query 'Reservations[].Instances[].State.Name' --output text) || return 1
    [ -z "$state" ] || [ "$state" = terminated ]
}

main "$@"
