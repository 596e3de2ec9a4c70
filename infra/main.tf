################################################################################
# Provider
################################################################################

provider "aws" {
  region = var.region

  s3_use_path_style           = var.simulator
  skip_credentials_validation = var.simulator
  skip_metadata_api_check     = var.simulator

  default_tags {
    tags = merge({ Project = "pixtools", Cluster = var.cluster_name }, var.tags)
  }
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394: only the first of the sorted names are used, and a new zone has a later letter
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # By name and not by number: the order is the same in every plan.
  zones = slice(sort(data.aws_availability_zones.available.names), 0, var.availability_zones)
  nats  = var.nat_gateway_per_zone ? local.zones : slice(local.zones, 0, 1)
}

################################################################################
# VPC: nodes and database have no way in from the internet
################################################################################

resource "aws_vpc" "this" {
  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = var.cluster_name }
}

# Nothing uses it; without rules a forgotten security group opens nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "public" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 8, 240 + each.value)

  tags = { Name = "${var.cluster_name}-public-${each.key}" }
}

resource "aws_subnet" "nodes" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)

  tags = { Name = "${var.cluster_name}-nodes-${each.key}" }
}

resource "aws_subnet" "database" {
  for_each = { for index, zone in local.zones : zone => index }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 8, 248 + each.value)

  tags = { Name = "${var.cluster_name}-database-${each.key}" }
}

################################################################################
# Routes: only NAT gateways are public; the database subnets have no way out
################################################################################

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.cluster_name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.cluster_name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  for_each = toset(local.nats)

  domain = "vpc"

  tags = { Name = "${var.cluster_name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.nats)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags       = { Name = "${var.cluster_name}-${each.key}" }
  depends_on = [aws_internet_gateway.this]
}

resource "aws_route_table" "nodes" {
  for_each = aws_subnet.nodes

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.cluster_name}-nodes-${each.key}" }
}

resource "aws_route" "nat" {
  for_each = aws_route_table.nodes

  route_table_id         = each.value.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.nat_gateway_per_zone ? each.key : local.nats[0]].id
}

resource "aws_route_table_association" "nodes" {
  for_each = aws_subnet.nodes

  subnet_id      = each.value.id
  route_table_id = aws_route_table.nodes[each.key].id
}

resource "aws_route_table" "database" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.cluster_name}-database" }
}

resource "aws_route_table_association" "database" {
  for_each = aws_subnet.database

  subnet_id      = each.value.id
  route_table_id = aws_route_table.database.id
}

################################################################################
# S3 without NAT: images are nearly all of the traffic, and this endpoint is free
################################################################################

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.nodes : table.id]
  policy            = data.aws_iam_policy_document.s3_endpoint.json

  tags = { Name = "${var.cluster_name}-s3" }
}

# A worker that has been taken over cannot carry images to somebody else's bucket in this region: users' own are named.
data "aws_iam_policy_document" "s3_endpoint" {
  statement {
    sid       = "OwnBuckets"
    actions   = ["s3:*"]
    resources = flatten([for bucket in aws_s3_bucket.this : [bucket.arn, "${bucket.arn}/*"]])

    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }

  # Who may do what there is said by the credentials of each store; the nodes' own have no right to these.
  dynamic "statement" {
    for_each = length(var.store_buckets) > 0 ? [var.store_buckets] : []

    content {
      sid = "StoresOfUsers"
      actions = [
        "s3:AbortMultipartUpload",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
      ]
      resources = flatten([for bucket in statement.value :
        ["arn:${local.partition}:s3:::${bucket}", "arn:${local.partition}:s3:::${bucket}/*"]
      ])

      principals {
        type        = "*"
        identifiers = ["*"]
      }
    }
  }

  statement {
    sid     = "PackagesAndImageLayers"
    actions = ["s3:GetObject"]
    resources = [
      "arn:${local.partition}:s3:::al2023-repos-${var.region}-*/*",
      "arn:${local.partition}:s3:::amazon-ssm-${var.region}/*",
      "arn:${local.partition}:s3:::prod-${var.region}-starport-layer-bucket/*",
      # registry.k8s.io sends who asks from AWS to the bucket of its region: the cluster autoscaler, kube-state-metrics.
      "arn:${local.partition}:s3:::prod-registry-k8s-io-${var.region}/*",
    ]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }
}

################################################################################
# One key for secrets, database, buckets, topics and logs
################################################################################

resource "aws_kms_key" "this" {
  description             = "PixTools ${var.cluster_name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.cluster_name}"
  target_key_id = aws_kms_key.this.key_id
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  # EventBridge names neither account nor rule when it asks for a key; who may publish is said by the topic's policy.
  statement {
    sid       = "Events"
    actions   = ["kms:GenerateDataKey*", "kms:Decrypt"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }

  statement {
    sid       = "Alarms"
    actions   = ["kms:GenerateDataKey*", "kms:Decrypt"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values = [for name in ["/${var.cluster_name}", "/aws/rds/instance/${var.cluster_name}"] :
        "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${name}/*"
      ]
    }
  }
}

################################################################################
# What was refused at the door
################################################################################

resource "aws_cloudwatch_log_group" "rejected" {
  name              = "/${var.cluster_name}/rejected-traffic"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_flow_log" "rejected" {
  vpc_id               = aws_vpc.this.id
  traffic_type         = "REJECT"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.rejected.arn
  iam_role_arn         = aws_iam_role.flow_log.arn

  tags = { Name = "${var.cluster_name}-rejected" }
}
