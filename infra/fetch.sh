#!/usr/bin/env bash
# Puts what nodes are made of into artifacts/, from where `terraform apply` takes it to the manifest bucket: K3s, the images
# of its own pods, and the certificates of RDS. No node then depends on GitHub or on a public registry.
#
#   infra/fetch.sh      after `terraform init`, and again when `k3s`, `architecture` or `region` change
#
# The binary has to be the one whose checksum is in `k3s`, and the release's own list has to name that one too; the images are
# held against the same list.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ARTIFACTS=${ARTIFACTS:-artifacts}

main() {
    local settings version region architecture pinned binary release
    # shellcheck disable=SC2016 # Terraform's own expression
    settings=$(terraform console <<<'"${var.k3s.version} ${var.region} ${var.architecture} ${var.k3s.sha256[var.architecture]}"' | tr -d '"')
    read -r version region architecture pinned <<<"$settings"
    case $architecture in x86_64) architecture=amd64 binary=k3s ;; *) binary=k3s-arm64 ;; esac
    release=https://github.com/k3s-io/k3s/releases/download/${version/+/%2B}
    mkdir -p "$ARTIFACTS"
    download "$ARTIFACTS/k3s.sums" "$release/sha256sum-$architecture.txt"
    download "$ARTIFACTS/k3s" "$release/$binary"
    download "$ARTIFACTS/k3s-images.tar.zst" "$release/k3s-airgap-images-$architecture.tar.zst"
    download "$ARTIFACTS/rds-ca.pem" "https://truststore.pki.rds.amazonaws.com/$region/$region-bundle.pem"
    check k3s "$pinned"
    check k3s "$(listed "$binary")"
    check k3s-images.tar.zst "$(listed "k3s-airgap-images-$architecture.tar.zst")"
    grep -q 'BEGIN CERTIFICATE' "$ARTIFACTS/rds-ca.pem" || fail "$ARTIFACTS/rds-ca.pem holds no certificate"
    echo "K3s $version for $architecture and the certificates of RDS in $region are in $ARTIFACTS/"
}

download() { curl --fail --silent --show-error --location --retry 5 --proto =https --output "$1" "$2"; }

listed() { awk -v name="$1" '$2 == name || $2 == "*" name { print $1 }' "$ARTIFACTS/k3s.sums"; }

check() {
    sha256sum --check --status <<<"${2:-none}  $ARTIFACTS/$1" || fail "$ARTIFACTS/$1 has another checksum"
}

fail() {
    echo "fetch.sh: $*" >&2
    exit 1
}

main
