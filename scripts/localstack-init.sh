#!/bin/bash
# Runs inside LocalStack when it is ready: makes the bucket, which the application never does by itself.
set -euo pipefail

awslocal s3api head-bucket --bucket "$PIXTOOLS_BUCKET" >/dev/null 2>&1 || awslocal s3 mb "s3://$PIXTOOLS_BUCKET"
