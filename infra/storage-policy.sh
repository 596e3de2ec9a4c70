#!/usr/bin/env bash
# Prints the NetworkPolicy that lets PixTools reach S3, whose addresses are public ones, by the ranges that AWS keeps for
# this region. They grow now and then; the old policy stays until the new one is applied:
#
#   infra/storage-policy.sh | kubectl apply -f -
#
# Needs the AWS CLI, jq and permission to read managed prefix lists.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

AWS_DEFAULT_REGION=$(terraform output -raw region)
export AWS_DEFAULT_REGION
list=$(aws ec2 describe-managed-prefix-lists --filters "Name=prefix-list-name,Values=com.amazonaws.$AWS_DEFAULT_REGION.s3" \
    --query 'PrefixLists[0].PrefixListId' --output text)
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
