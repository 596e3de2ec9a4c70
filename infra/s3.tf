################################################################################
# Two buckets: images of jobs, and manifests that the servers apply
################################################################################

locals {
  buckets = {
    images    = "${var.cluster_name}-images-${local.account}-${var.region}"
    manifests = "${var.cluster_name}-manifests-${local.account}-${var.region}"
  }
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18: CloudTrail's data events show who read what, without a third bucket
  #checkov:skip=CKV_AWS_144: results live for a day, and manifests are in the repository
  #checkov:skip=CKV2_AWS_62: nothing has to happen when an object arrives
  for_each = local.buckets

  bucket        = each.value
  force_destroy = !var.protected
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    # Without the bucket's own key, every object would be a paid request to KMS.
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

################################################################################
# What is forgotten goes away
################################################################################

resource "aws_s3_bucket_lifecycle_configuration" "images" {
  # Rules on noncurrent versions need versioning first.
  depends_on = [aws_s3_bucket_versioning.this]

  bucket = aws_s3_bucket.this["images"].id

  rule {
    id     = "jobs"
    status = "Enabled"

    filter {
      prefix = "jobs/"
    }

    expiration {
      days = var.object_days
    }
  }

  rule {
    id     = "leftovers"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "manifests" {
  depends_on = [aws_s3_bucket_versioning.this]

  bucket = aws_s3_bucket.this["manifests"].id

  rule {
    id     = "leftovers"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }

    noncurrent_version_expiration {
      noncurrent_days = 90
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}

################################################################################
# Only by TLS 1.2 or newer
################################################################################

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "NoOldTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  policy = data.aws_iam_policy_document.bucket[each.key].json

  # S3 takes one change of a bucket's access at a time.
  depends_on = [aws_s3_bucket_public_access_block.this]
}

################################################################################
# What every cluster of this kind runs; servers apply what lies below addons/
################################################################################

locals {
  addons = {
    "termination-handler.yaml" = {
      image     = var.addon_images.termination_handler
      region    = var.region
      queue_url = aws_sqs_queue.drain.url
    }
    "cluster-autoscaler.yaml" = {
      image   = var.addon_images.cluster_autoscaler
      region  = var.region
      cluster = var.cluster_name
    }
    "keda.yaml" = {
      version = var.keda_version
    }
    "traefik.yaml" = {
      replicas = min(2, var.servers.count)
    }
  }

  # What `fetch.sh` has put there, by checksum.
  artifacts = { for name in ["k3s", "k3s-images.tar.zst", "rds-ca.pem"] : name =>
    fileexists("${var.artifacts}/${name}") ? filesha256("${var.artifacts}/${name}") : "missing"
  }
}

resource "aws_s3_object" "addon" {
  for_each = local.addons

  bucket       = aws_s3_bucket.this["manifests"].id
  key          = "addons/${each.key}"
  content      = templatefile("${path.module}/addons/${each.key}.tftpl", each.value)
  content_type = "application/yaml"

  # The bucket's default, named so that a plan shows no difference.
  kms_key_id             = aws_kms_key.this.arn
  server_side_encryption = "aws:kms"
  bucket_key_enabled     = true

  depends_on = [aws_s3_bucket_server_side_encryption_configuration.this, aws_s3_bucket_versioning.this]
}

################################################################################
# What nodes are made of: they look nowhere else at boot
################################################################################

resource "aws_s3_object" "artifact" {
  for_each = local.artifacts

  bucket      = aws_s3_bucket.this["manifests"].id
  key         = "artifacts/${substr(each.value, 0, 12)}/${each.key}"
  source      = "${var.artifacts}/${each.key}"
  source_hash = each.value

  kms_key_id             = aws_kms_key.this.arn
  server_side_encryption = "aws:kms"
  bucket_key_enabled     = true

  depends_on = [aws_s3_bucket_server_side_encryption_configuration.this, aws_s3_bucket_versioning.this]

  lifecycle {
    # Nodes of the launch template before this one may still boot.
    create_before_destroy = true

    precondition {
      condition     = each.value != "missing"
      error_message = "${var.artifacts}/${each.key} is not there: run ./fetch.sh first."
    }

    precondition {
      condition     = each.key != "k3s" || each.value == var.k3s.sha256[var.architecture]
      error_message = "${var.artifacts}/${each.key} is another release than k3s.sha256 names: run ./fetch.sh again."
    }
  }
}
