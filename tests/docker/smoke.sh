#!/usr/bin/env bash
# Proves the images and docker-compose.yaml together: one photograph through the whole service, every queue of it.
#
#   tests/docker/smoke.sh build    the images
#   tests/docker/smoke.sh run      start everything, process a photograph, check the results, remove everything
#   tests/docker/smoke.sh lasting  the same with docker-compose.lasting.yaml, and the results again after a restart of all
#
# Environment:
#   DOCKER               docker
#   DOCKER_COMPOSE       docker compose
#   DOCKER_BUILD_FLAGS   more options of `docker build`
#   STANDIN              1: the servers come from an image made here instead of the official ones, which are not pulled
#   PIXTOOLS_PORT, LOCALSTACK_PORT   8000 and 4566
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

read -ra docker <<<"${DOCKER:-docker}"
read -ra compose <<<"${DOCKER_COMPOSE:-docker compose}"
read -ra docker_build <<<"${DOCKER:-docker} build ${DOCKER_BUILD_FLAGS:-}"
api=http://127.0.0.1:${PIXTOOLS_PORT:-8000}
standin=${STANDIN:-0}
operations='["convert_avif", {"op": "resize", "width": 640, "then": ["convert_webp"]},
    {"op": "resize", "width": 160, "then": ["denoise"]}]'

compose+=(--project-name pixtools-smoke --file docker-compose.yaml)
suffix=
if [ "${1:-}" = lasting ]; then
    suffix=-lasting
    compose+=(--file docker-compose.lasting.yaml)
fi
compose+=(--file tests/docker/docker-compose.smoke.yaml)
if [ "$standin" = 1 ]; then compose+=(--file "tests/docker/docker-compose.standin$suffix.yaml"); fi

step() { printf '== %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

build() {
    local target
    for target in api worker worker-ml; do
        step "build pixtools-$target"
        "${docker_build[@]}" --target "$target" --tag "pixtools-$target" .
    done
    if [ "$standin" = 1 ]; then
        step "build pixtools-standin"
        "${docker_build[@]}" --file tests/docker/standin.Dockerfile --tag pixtools-standin tests/docker
    fi
    "${docker[@]}" images --filter 'reference=pixtools-*'
}

# Python of our own image, so that this machine needs none: input on standard input, code as argument.
python() { "${compose[@]}" exec -T worker python -c "$@"; }

start() {
    local pull=missing
    if [ "$standin" = 1 ]; then pull=never; fi
    # Not the defaults: what is not passed on by the environment must show.
    POSTGRES_PASSWORD=$(random) RABBITMQ_PASSWORD=$(random) PIXTOOLS_SECRET_KEY=$(random)
    export POSTGRES_PASSWORD RABBITMQ_PASSWORD PIXTOOLS_SECRET_KEY
    step "start, and wait until all are healthy"
    "${compose[@]}" up --detach --no-build --pull "$pull" --wait --wait-timeout 240
    "${compose[@]}" ps
}

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

photograph() {
    if [ -f tests/golden/photo.jpg ]; then
        cat tests/golden/photo.jpg
        return
    fi
    python '
import sys, pyvips
bands = [pyvips.Image.perlin(1600, 1200, cell_size=size).linear(100, 128) for size in (400, 250, 120)]
photo = bands[0].bandjoin(bands[1:]) + pyvips.Image.gaussnoise(1600, 1200, sigma=4)
sys.stdout.buffer.write(photo.cast("uchar").copy(interpretation="srgb").jpegsave_buffer(Q=90))'
}

submit() {
    photograph >"$folder/photo.jpg"
    step "POST /process: $(wc -c <"$folder/photo.jpg") bytes, $operations"
    curl --silent --show-error --fail-with-body --max-time 30 --output "$folder/job.json" \
        --form "file=@$folder/photo.jpg;type=image/jpeg" --form-string "operations=$operations" \
        --form-string "webhook_url=http://receiver:8080/hook" "$api/process" ||
        fail "$(cat "$folder/job.json")"
    job=$(python 'import json, sys; print(json.load(sys.stdin)["id"])' <"$folder/job.json")
    step "job $job"
}

wait_for_job() {
    local status
    for _ in $(seq 60); do
        curl --silent --show-error --fail --max-time 10 --output "$folder/job.json" "$api/jobs/$job"
        status=$(python 'import json, sys; print(json.load(sys.stdin)["status"])' <"$folder/job.json")
        step "GET /jobs/$job: $status"
        case $status in
        completed) return ;;
        pending | processing) sleep 1 ;;
        *) break ;;
        esac
    done
    fail "the job did not complete: $(cat "$folder/job.json")"
}

check_results() {
    local name format type width bytes sha256 url count=0
    python '
import json, sys
for result in json.load(sys.stdin)["results"]:
    print(*(result[key] for key in ("name", "format", "content_type", "width", "bytes", "sha256", "url")))' \
        <"$folder/job.json" >"$folder/results"
    while read -r name format type width bytes sha256 url <&3; do
        step "GET $name: $type, $width pixels wide, $bytes bytes"
        check_result
        count=$((count + 1))
    done 3<"$folder/results"
    [ "$count" = 3 ] || fail "$count results instead of 3"
    [ "$(cut -d' ' -f2 "$folder/results" | sort | xargs)" = "avif png webp" ] || fail "formats: $(cat "$folder/results")"
    grep -q '^[^ ]* webp image/webp 640 ' "$folder/results" || fail "the resized result is not 640 pixels wide"
}

# Reads the variables of its caller.
check_result() {
    local served decoded
    served=$(curl --silent --show-error --fail --max-time 30 --output "$folder/result" --write-out '%{content_type}' "$url")
    [ "$served" = "$type" ] || fail "served as $served"
    decoded=$(python '
import hashlib, pyvips, sys
data = sys.stdin.buffer.read()
image = pyvips.Image.new_from_buffer(data, "")
assert image.avg() > 1, "black"
formats = {"heifload_buffer": "avif", "pngload_buffer": "png", "webpload_buffer": "webp"}
print(formats[image.get("vips-loader")], image.width, len(data), hashlib.sha256(data).hexdigest())' <"$folder/result")
    [ "$decoded" = "$format $width $bytes $sha256" ] || fail "what arrived is $decoded"
    served=$(curl --silent --output /dev/null --max-time 30 --write-out '%{http_code}' "${url%?}")
    [ "$served" = 403 ] || fail "a download URL with a damaged signature gets $served"
}

# What the webhook worker sent: this job, signed with the server's secret.
check_webhook() {
    local seen=
    for _ in $(seq 30); do
        if "${compose[@]}" exec -T receiver cat /tmp/webhook >"$folder/webhook" 2>/dev/null; then
            seen=$(SECRET=$("${compose[@]}" exec -T api pixtools webhooks secret) verify)
            break
        fi
        sleep 1
    done
    step "webhook: $seen"
    [ "$seen" = "job.completed $job" ] || fail "no webhook of this job: $seen"
}

verify() {
    "${compose[@]}" exec -T -e SECRET="$SECRET" worker python -c '
import base64, json, os, sys
from app.services.webhooks.signing import sign
hook = json.load(sys.stdin)
body = base64.b64decode(hook["body"])
expected = sign([os.environ["SECRET"].strip()], message_id=hook["id"], timestamp=int(hook["timestamp"]), body=body)
assert hook["signature"] == expected, "the signature is not ours"
event = json.loads(body)
print(event["type"], event["data"]["id"])' <"$folder/webhook"
}

# What docker-compose.yaml and the Dockerfile promise of each container of ours: optional libraries it has, and no others.
check_containers() {
    local service
    for service in api worker worker-webhook worker-fetch worker-ml; do
        local libraries=
        case $service in
        worker | worker-webhook | worker-fetch) libraries="numpy pyvips" ;;
        worker-ml) libraries="numpy onnxruntime pyvips" ;;
        esac
        step "$service: uid $("${compose[@]}" exec -T "$service" id -u), nothing to build with, nothing to write to," \
            "optional: ${libraries:-none}"
        "${compose[@]}" exec -T -e LIBRARIES="$libraries" "$service" python -c '
import importlib.util, os, pathlib, shutil
assert os.getuid() == 10001
assert not [name for name in ("cc", "gcc", "g++", "ld", "make") if shutil.which(name)]
optional = ("numpy", "onnx", "onnxruntime", "pyvips", "torch")
assert [name for name in optional if importlib.util.find_spec(name)] == os.environ["LIBRARIES"].split()
try:
    pathlib.Path("/srv/pixtools/written").touch()
except OSError:
    pass
else:
    raise SystemExit("the root file system is writable")' || fail "$service is not as promised"
    done
}

clean_up() {
    local status=$?
    trap - EXIT
    if [ "$status" != 0 ]; then
        "${compose[@]}" ps --all || true
        "${compose[@]}" logs --tail 60 || true
    fi
    step "remove everything"
    "${compose[@]}" down --volumes --remove-orphans --timeout 20 || status=1
    rm -rf "$folder"
    exit "$status"
}

run() {
    folder=$(mktemp -d)
    trap clean_up EXIT
    start
    submit
    wait_for_job
    check_results
    check_webhook
    check_containers
    step "passed"
}

lasting() {
    folder=$(mktemp -d)
    trap clean_up EXIT
    start
    submit
    wait_for_job
    check_results
    step "end everything, keep the volumes, start again"
    "${compose[@]}" down --timeout 100
    "${compose[@]}" up --detach --no-build --pull never --wait --wait-timeout 240
    wait_for_job
    check_results
    submit
    wait_for_job
    check_results
    step "passed"
}

case ${1:-} in
build | run | lasting) "$1" ;;
*)
    sed -n '2,13s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
