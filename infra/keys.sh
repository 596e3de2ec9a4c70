# shellcheck shell=bash
# For settings.sh and alertmanager.sh: what Terraform says, secrets, and keys of programs. A key is made at the first run and
# kept in Secrets Manager, so it never is in Terraform's state.

output() { terraform output -raw "$1"; }

secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

# key_of PROGRAM: its id and its secret, with a space between
key_of() { secret "$(output cluster_name)/$1-key" 2>/dev/null || make_key "$1"; }

make_key() {
    local user key
    user=$(output "$1_user")
    key=$(aws iam create-access-key --user-name "$user" --query 'AccessKey.[AccessKeyId,SecretAccessKey]' --output text)
    key=${key//$'\t'/ }
    printf '%s' "$key" | aws secretsmanager put-secret-value --secret-id "$(output cluster_name)/$1-key" \
        --secret-string file:///dev/stdin >/dev/null
    echo "$key"
}
