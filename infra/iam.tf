################################################################################
# Roles of nodes. Pods reach none of them: the metadata service answers one hop only
################################################################################

locals {
  # What a node says about itself and may read is bound to this cluster's names.
  parameters_arn = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.cluster_name}"
  groups_arn     = "arn:${local.partition}:autoscaling:${var.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${var.cluster_name}"
  roles          = toset(["server", "worker"])
}

data "aws_iam_policy_document" "ec2_assumes" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  for_each = local.roles

  name               = "${var.cluster_name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.ec2_assumes.json
}

resource "aws_iam_instance_profile" "node" {
  for_each = local.roles

  name = "${var.cluster_name}-${each.key}"
  role = aws_iam_role.node[each.key].name
}

# AWS' own AmazonSSMManagedInstanceCore would also let every node read every parameter of the account.
data "aws_iam_policy_document" "node" {
  for_each = local.roles

  statement {
    sid = "SessionManagerInsteadOfSsh"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Addresses"
    actions   = ["ssm:GetParameter"]
    resources = ["${local.parameters_arn}/api-address"]
  }

  statement {
    sid       = "Join"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for name in ["agent-token", "authority"] : aws_secretsmanager_secret.this[name].arn]
  }

  statement {
    sid       = "Artifacts"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["manifests"].arn}/artifacts/*"]
  }

  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${var.region}.amazonaws.com", "s3.${var.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "SayThatBootHasEnded"
    actions   = ["autoscaling:CompleteLifecycleAction"]
    resources = each.key == "server" ? ["${local.groups_arn}-server"] : [for class in keys(var.workers) : "${local.groups_arn}-${class}"]
  }
}

resource "aws_iam_role_policy" "node" {
  for_each = local.roles

  name   = "node"
  role   = aws_iam_role.node[each.key].id
  policy = data.aws_iam_policy_document.node[each.key].json
}

################################################################################
# What servers may beyond that: fill secrets, read manifests, drain and scale nodes
################################################################################

data "aws_iam_policy_document" "server" {
  statement {
    sid     = "ReadSecrets"
    actions = ["secretsmanager:GetSecretValue"]
    resources = concat(
      [for name in setsubtract(local.boot_secrets, ["agent-token", "authority"]) : aws_secretsmanager_secret.this[name].arn],
      [aws_db_instance.this.master_user_secret[0].secret_arn],
    )
  }

  statement {
    sid       = "FillSecretsOnce"
    actions   = ["secretsmanager:PutSecretValue"]
    resources = [for name in local.boot_secrets : aws_secretsmanager_secret.this[name].arn]
  }

  statement {
    sid       = "EncryptSecrets"
    actions   = ["kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${var.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "Parameters"
    actions   = ["ssm:GetParameter"]
    resources = [for parameter in aws_ssm_parameter.this : parameter.arn]
  }

  statement {
    sid       = "ListManifests"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["manifests"].arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["addons/*"]
    }
  }

  statement {
    sid       = "ReadManifests"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["manifests"].arn}/addons/*"]
  }

  dynamic "statement" {
    for_each = length(var.ecr_repositories) > 0 ? [1] : []

    content {
      sid       = "PasswordOfTheRegistry"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }

  # The password can do what the role can.
  dynamic "statement" {
    for_each = length(var.ecr_repositories) > 0 ? [1] : []

    content {
      sid       = "PullImages"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = var.ecr_repositories
    }
  }

  statement {
    sid       = "TakeInterruptions"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
    resources = [aws_sqs_queue.drain.arn]
  }

  statement {
    sid = "DrainAndScale"
    actions = [
      "autoscaling:CompleteLifecycleAction",
      "autoscaling:SetDesiredCapacity",
      "autoscaling:TerminateInstanceInAutoScalingGroup",
    ]
    resources = [for class in keys(var.workers) : "${local.groups_arn}-${class}"]
  }

  statement {
    sid = "Look"
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeTags",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeManagedPrefixLists",
      "ec2:GetManagedPrefixListEntries",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "server" {
  name   = "server"
  role   = aws_iam_role.node["server"].id
  policy = data.aws_iam_policy_document.server.json
}

################################################################################
# PixTools itself: objects of one bucket and nothing else. `settings.sh` makes its key, so that state never holds it.
# Alertmanager: messages to one topic, with a key that `alertmanager.sh` makes
################################################################################

# Keys and not a role: a download URL ends with the credentials that signed it, and temporary ones end too soon.
resource "aws_iam_user" "this" {
  #checkov:skip=CKV_AWS_273: programs and no persons; nothing here could assume a role for a pod
  for_each = local.programs

  name          = "${var.cluster_name}-${each.key}"
  force_destroy = !var.simulator # its key was not made here; simulators know only a part of what is asked for this
}

resource "aws_iam_group" "this" {
  for_each = local.programs

  name = "${var.cluster_name}-${each.key}"
}

resource "aws_iam_user_group_membership" "this" {
  for_each = local.programs

  user   = aws_iam_user.this[each.key].name
  groups = [aws_iam_group.this[each.key].name]
}

data "aws_iam_policy_document" "application" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.this["images"].arn]
  }

  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = [for prefix in ["assets", "jobs"] : "${aws_s3_bucket.this["images"].arn}/${prefix}/*"]
  }

  statement {
    sid       = "Encrypt"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "alertmanager" {
  statement {
    sid       = "Publish"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]
  }

  statement {
    sid       = "Encrypt"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sns.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_group_policy" "this" {
  for_each = {
    application  = data.aws_iam_policy_document.application.json
    alertmanager = data.aws_iam_policy_document.alertmanager.json
  }

  name   = "only"
  group  = aws_iam_group.this[each.key].name
  policy = each.value
}

################################################################################
# Services of AWS
################################################################################

data "aws_iam_policy_document" "service_assumes" {
  for_each = {
    flow_log   = "vpc-flow-logs.amazonaws.com"
    monitoring = "monitoring.rds.amazonaws.com"
  }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "flow_log" {
  name               = "${var.cluster_name}-flow-log"
  assume_role_policy = data.aws_iam_policy_document.service_assumes["flow_log"].json
}

data "aws_iam_policy_document" "flow_log" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.rejected.arn}:*"]
  }
}

resource "aws_iam_role_policy" "flow_log" {
  name   = "write"
  role   = aws_iam_role.flow_log.id
  policy = data.aws_iam_policy_document.flow_log.json
}

resource "aws_iam_role" "database_monitoring" {
  name               = "${var.cluster_name}-database-monitoring"
  assume_role_policy = data.aws_iam_policy_document.service_assumes["monitoring"].json
}

resource "aws_iam_role_policy_attachment" "database_monitoring" {
  role       = aws_iam_role.database_monitoring.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

################################################################################
# Boxes for secrets. Terraform never sees what is in them: the first server fills them, see templates/boot.sh
################################################################################

locals {
  boot_secrets = toset(["server-token", "agent-token", "authority", "database-k3s", "database-pixtools"])
  programs     = toset(["application", "alertmanager"])
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57: a token or password of a running cluster changes by a procedure, see README.md
  for_each = setunion(local.boot_secrets, [for program in local.programs : "${program}-key"])

  name                    = "${var.cluster_name}/${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.protected ? 30 : 0
}

# Where things are: no secrets, but unknown before they exist, so nodes look here at boot.
resource "aws_ssm_parameter" "this" {
  #checkov:skip=CKV2_AWS_34: addresses and names are not secrets
  for_each = {
    "api-address"            = aws_lb.this.dns_name
    "database-address"       = aws_db_instance.this.address
    "database-administrator" = aws_db_instance.this.master_user_secret[0].secret_arn
  }

  name  = "/${var.cluster_name}/${each.key}"
  type  = "String"
  value = each.value
}
