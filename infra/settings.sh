#!/usr/bin/env bash
# Prints what PixTools has to know of this deployment as NAME=VALUE lines, passwords included:
#
#   infra/settings.sh | kubectl --namespace pixtools create secret generic pixtools-settings --from-env-file=/dev/stdin
#
# Needs the AWS CLI, and permission to read the secrets and to create the key of the application's user.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=infra/keys.sh
source ./keys.sh

main() {
    local bucket address password key
    bucket=$(output image_bucket)
    address=$(output database_address)
    AWS_DEFAULT_REGION=$(output region)
    export AWS_DEFAULT_REGION
    password=$(secret "$(output cluster_name)/database-pixtools")
    key=$(key_of application)
    cat <<LINES
PIXTOOLS_DATABASE_URL=postgresql://pixtools:$password@$address:5432/pixtools?sslmode=verify-full&sslrootcert=/etc/pixtools/database/ca.pem
PIXTOOLS_STORAGE_URL=s3://$bucket
PIXTOOLS_S3_REGION=$AWS_DEFAULT_REGION
PIXTOOLS_S3_ACCESS_KEY=${key%% *}
PIXTOOLS_S3_SECRET_KEY=${key##* }
LINES
}

main
