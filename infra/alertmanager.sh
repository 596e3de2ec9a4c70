#!/usr/bin/env bash
# Prints Alertmanager's configuration for this deployment, with the key that it publishes to the topic of alerts by:
#
#   infra/alertmanager.sh https://WATCHDOG | kubectl --namespace pixtools create secret generic pixtools-alertmanager \
#       --from-file=alertmanager.yaml=/dev/stdin
#
# WATCHDOG is a URL of a service outside of this account that calls somebody when nothing has come for some minutes: it is
# what notices that Prometheus, Alertmanager or the whole cluster is gone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=infra/keys.sh
source ./keys.sh

main() {
    local region topic key
    region=$(output region)
    topic=$(output alerts_topic)
    AWS_DEFAULT_REGION=$region
    export AWS_DEFAULT_REGION
    key=$(key_of alertmanager)
    cat ../k8s/monitoring/alertmanager/routes.yaml
    cat <<YAML
receivers:
$(for name in page ticket; do receiver "$name" "$region" "$topic" "$key"; done)
  - name: watchdog
    webhook_configs:
      - url: "$1"
        send_resolved: false
YAML
}

receiver() {
    cat <<YAML
  - name: $1
    sns_configs:
      - topic_arn: $3
        subject: 'PixTools $1: {{ .CommonLabels.alertname }} {{ .Status }}'
        sigv4:
          region: $2
          access_key: ${4%% *}
          secret_key: ${4##* }
YAML
}

case ${1:-} in
https://*) main "$1" ;;
*)
    echo "usage: infra/alertmanager.sh https://WATCHDOG" >&2
    exit 2
    ;;
esac
