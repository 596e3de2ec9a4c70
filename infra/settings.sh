#!/usr/bin/env bash
# Prints what PixTools has to know of this deployment as NAME=VALUE lines, passwords included:
#
#   infra/settings.sh | kubectl --namespace pixtools create secret generic pixtools-settings --from-env-file=/dev/stdin
#
# Needs the AWS CLI, and permission to read the secrets and to create the key of the application's user. That is made
# at the first run and kept in Secrets Manager, so it never is in Terraform's state.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

main() {
    local cluster bucket address password key
    cluster=$(output cluster_name)
    bucket=$(output image_bucket)
    address=$(output database_address)
    AWS_DEFAULT_REGION=$(output region)
    export AWS_DEFAULT_REGION
    password=$(secret "$cluster/database-pixtools")
    key=$(application_key "$cluster/application-key")
    cat <<LINES
PIXTOOLS_DATABASE_URL=postgresql://pixtools:$password@$address:5432/pixtools?sslmode=require
PIXTOOLS_STORAGE_URL=s3://$bucket
PIXTOOLS_S3_REGION=$AWS_DEFAULT_REGION
PIXTOOLS_S3_ACCESS_KEY=${key%% *}
PIXTOOLS_S3_SECRET_KEY=${key##* }
LINES
}

output() { terraform output -raw "$1"; }

secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

application_key() {
    secret "$1" 2>/dev/null || make_application_key "$1"
}

make_application_key() {
    local user key
    user=$(output application_user)
    key=$(aws iam create-access-key --user-name "$user" --query 'AccessKey.[AccessKeyId,SecretAccessKey]' --output text)
    key=${key//$'\t'/ }
    printf '%s' "$key" | aws secretsmanager put-secret-value --secret-id "$1" --secret-string file:///dev/stdin >/dev/null
    echo "$key"
}

main
