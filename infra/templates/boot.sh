# shellcheck shell=bash
# Makes a K3s node of an instance of Amazon Linux 2023. It stays there as `pixtools-node`; on servers a timer runs
# `pixtools-node upkeep` every minute.
#
# Nothing in here is secret: tokens and passwords come from Secrets Manager, by the role of the instance. K3s, its images
# and the database's certificates come from the manifest bucket, with the checksums of user data: no other host has to answer.
set -euo pipefail

ROOT=${ROOT:-} # tests install into a folder
CONFIG=$ROOT/etc/rancher/k3s
DATA=$ROOT/var/lib/rancher/k3s
MANIFESTS=$DATA/server/manifests/pixtools
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
    mkdir -p "$CONFIG" "$DATA/agent/images" "$DATA/agent/etc/kubelet.conf.d" "$MANIFESTS" "$UNITS" \
        "$ROOT/usr/local/bin" "$ROOT/usr/local/sbin"
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

# fetch NAME SHA256 FILE: one of the artifacts of s3.tf
fetch() {
    retry 120 aws s3 cp --only-show-errors "s3://$BUCKET/artifacts/${2:0:12}/$1" "$3.new"
    sha256sum --check --status <<<"$2  $3.new" || fail "$1 has another checksum"
    mv "$3.new" "$3"
}

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
    fetch k3s "$K3S_SHA256" "$K3S"
    chmod 755 "$K3S"
    ln -sf k3s "$ROOT/usr/local/bin/kubectl"
    # K3s imports what lies here before it starts a pod, so its own pods need no registry.
    fetch k3s-images.tar.zst "$IMAGES_SHA256" "$DATA/agent/images/k3s-images.tar.zst"
    # A step that grows too large loses its own process, and not the worker with all else that it runs.
    cat >"$DATA/agent/etc/kubelet.conf.d/50-pixtools.conf" <<'YAML'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
singleProcessOOMKill: true
YAML
    if [ -n "$MIRROR" ]; then
        printf 'mirrors:\n  docker.io:\n    endpoint:\n      - %s\n' "$MIRROR" >"$CONFIG/registries.yaml"
    fi
}

# What servers and agents have in common: the cluster autoscaler knows nodes by their provider id, pods spread over zones.
common_config() {
    cat <<YAML
node-name: $node
node-ip: $address
node-label:
  - pixtools.io/node-class=$NODE_CLASS
  - topology.kubernetes.io/region=$REGION
  - topology.kubernetes.io/zone=$zone
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
    local server
    retry 600 save_agent_token
    server=$(parameter api-address)
    {
        echo "server: https://$server:6443"
        echo "token: $(<"$CONFIG/agent-token")"
        common_config
        echo "node-taint:"
        echo "  - pixtools.io/spot=true:NoSchedule"
    } >"$CONFIG/config.yaml"
    start_k3s agent
}

# There is none before the first server has started. With the checksum of its authority in front the agent joins no other.
save_agent_token() {
    local token authority
    token=$(secret "$CLUSTER/agent-token") || return 1
    authority=$(secret "$CLUSTER/authority") || return 1
    printf 'K10%s::node:%s' "$authority" "$token" >"$CONFIG/agent-token"
}

################################################################################
# Servers
################################################################################

boot_server() {
    local name
    dnf install --quiet --assumeyes postgresql16 jq
    fetch rds-ca.pem "$CA_SHA256" "$CONFIG/database-ca.pem"
    for name in server-token agent-token database-k3s database-pixtools; do fill_secret "$CLUSTER/$name" random; done
    create_databases
    sync_addons
    write_server_config
    start_k3s server
    retry 300 "$K3S" kubectl get --raw /readyz >/dev/null
    publish_authority
    start_upkeep
}

# Servers share it by the database.
publish_authority() {
    fill_secret "$CLUSTER/authority" authority
    [ "$(secret "$CLUSTER/authority")" = "$(authority)" ] || fail "this cluster has another certificate authority"
}

authority() { sha256sum <"$DATA/server/tls/server-ca.crt" | cut -d ' ' -f 1 | tr -d '\n'; }

# fill_secret NAME COMMAND: under one request token Secrets Manager keeps the first value, whichever server it comes from,
# and refuses others.
fill_secret() {
    if secret "$1" >/dev/null 2>&1; then return; fi
    "$2" | aws secretsmanager put-secret-value --secret-id "$1" --client-request-token 00000000-0000-0000-0000-000000000001 \
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
Description=Apply new addons, renew what ends, and forget nodes that are gone

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
    forget_lost_claims
    # Addresses of one DNS server would be gone with its node. K3s leaves the number as it is set.
    if [ "$SERVERS" -gt 1 ]; then
        kube --namespace kube-system scale deployment coredns --current-replicas=1 --replicas=2 >/dev/null 2>&1 || true
    fi
    every 14400 pull-secret renew_pull_secrets
    every 86400 namespace renew_namespace
}

kube() { "$K3S" kubectl "$@"; }

# every SECONDS NAME COMMAND: what fails is tried again a minute later
every() {
    local stamp=$DATA/pixtools-$1-$2
    if [ -e "$stamp" ] && [ $(($(date +%s) - $(stat -c %Y "$stamp"))) -lt "$1" ]; then return; fi
    if "$3"; then touch "$stamp"; fi
}

# K3s applies whatever appears or changes in this folder.
sync_addons() {
    aws s3 sync --delete --only-show-errors "s3://$BUCKET/addons/" "$MANIFESTS/"
}

# K3s keeps a node whose instance is gone, and with it pods that cannot be ended.
forget_gone_nodes() {
    local node id
    while read -r node id; do
        if is_gone "$id"; then kube delete node "$node" --ignore-not-found --wait=false; fi
    done < <(kube get nodes --output json | jq --raw-output '.items[]
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

# RabbitMQ, Redis and Prometheus keep their data on a server's disk. When that is gone their pods wait for it for ever;
# without the claim they start empty, and the database brings every open job back.
forget_lost_claims() {
    local nodes claim volume pod
    nodes=$(kube get nodes --output json | jq --compact-output '[.items[].metadata.name]') || return 0
    while read -r claim volume; do
        echo "pixtools-node: the disk of $claim is gone with its node"
        kube --namespace pixtools delete persistentvolumeclaim "$claim" --ignore-not-found --wait=false
        kube delete persistentvolume "$volume" --ignore-not-found --wait=false
        while read -r pod; do
            kube --namespace pixtools delete pod "$pod" --ignore-not-found --wait=false
        done < <(kube --namespace pixtools get pods --output json | jq --raw-output --arg claim "$claim" '.items[]
            | select(any(.spec.volumes[]?; .persistentVolumeClaim.claimName == $claim)) | .metadata.name')
    done < <(kube --namespace pixtools get persistentvolumeclaims,persistentvolumes --output json |
        jq --raw-output --argjson nodes "$nodes" '
            ([.items[] | select(.kind == "PersistentVolume") | {(.metadata.name): [
                .spec.nodeAffinity.required.nodeSelectorTerms[]?.matchExpressions[]?
                | select(.key == "kubernetes.io/hostname" and .operator == "In").values[]]}] | add // {}) as $hosts
            | .items[] | select(.kind == "PersistentVolumeClaim" and .metadata.deletionTimestamp == null)
            | ($hosts[.spec.volumeName // ""] // []) as $on
            | select(($nodes | length) > 0 and ($on | length) > 0 and ($on - $nodes) == $on)
            | "\(.metadata.name) \(.spec.volumeName)"')
}

# The password of a registry of ECR is good for twelve hours. All pods find it by their service accounts.
renew_pull_secrets() {
    local namespace
    if [ -z "$REGISTRY" ]; then return; fi
    for namespace in kube-system pixtools; do
        aws ecr get-login-password | jq --raw-input --arg registry "$REGISTRY" --arg namespace "$namespace" '{
            apiVersion: "v1", kind: "Secret", type: "kubernetes.io/dockerconfigjson",
            metadata: {name: "pixtools-registry", namespace: $namespace},
            stringData: {".dockerconfigjson": ({auths: {($registry): {username: "AWS", password: .}}} | tojson)}
        }' | kube apply --filename - >/dev/null || return 1
    done
}

# What pods need of AWS and no manifest can know: the database's certificates, and the addresses of S3, which change.
renew_namespace() {
    kube --namespace pixtools create configmap database-ca --from-file=ca.pem="$CONFIG/database-ca.pem" \
        --dry-run=client --output yaml | kube apply --filename - >/dev/null || return 1
    storage_policy | kube apply --filename - >/dev/null
}

storage_policy() {
    local list
    list=$(aws ec2 describe-managed-prefix-lists --filters "Name=prefix-list-name,Values=com.amazonaws.$REGION.s3" \
        --query 'PrefixLists[0].PrefixListId' --output text) || return 1
    aws ec2 get-managed-prefix-list-entries --prefix-list-id "$list" --query 'Entries[].Cidr' --output json | jq '
        if length == 0 then error("AWS names no ranges") else . end | {
            apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy",
            metadata: {name: "s3", namespace: "pixtools"},
            spec: {
                podSelector: {
                    matchLabels: {"app.kubernetes.io/name": "pixtools"},
                    matchExpressions: [{key: "app.kubernetes.io/component", operator: "NotIn", values: ["migrate"]}]
                },
                policyTypes: ["Egress"],
                egress: [{to: map({ipBlock: {cidr: .}}), ports: [{protocol: "TCP", port: 443}]}]
            }
        }'
}

main "$@"
