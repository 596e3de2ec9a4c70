################################################################################
# What AWS says about nodes: to people by SNS, and to the termination handler by SQS
################################################################################

locals {
  groups = concat([aws_autoscaling_group.server.name], [for group in aws_autoscaling_group.worker : group.name])

  # Spot events carry no group: they arrive for every instance of the account. The handler looks for its tag.
  events = {
    spot-interruption = {
      drain = true
      pattern = {
        source      = ["aws.ec2"]
        detail-type = ["EC2 Spot Instance Interruption Warning"]
      }
    }
    # To people only: capacity rebalancing starts the replacement itself and then ends the old node by its drain hook.
    rebalance-recommendation = {
      drain = false
      pattern = {
        source      = ["aws.ec2"]
        detail-type = ["EC2 Instance Rebalance Recommendation"]
      }
    }
    node-terminating = {
      drain = true
      pattern = {
        source      = ["aws.autoscaling"]
        detail-type = ["EC2 Instance-terminate Lifecycle Action"]
        detail      = { AutoScalingGroupName = local.groups }
      }
    }
    node-launch = {
      drain = false
      pattern = {
        source      = ["aws.autoscaling"]
        detail-type = ["EC2 Instance Launch Successful", "EC2 Instance Launch Unsuccessful"]
        detail      = { AutoScalingGroupName = local.groups }
      }
    }
    node-termination = {
      drain = false
      pattern = {
        source      = ["aws.autoscaling"]
        detail-type = ["EC2 Instance Terminate Successful", "EC2 Instance Terminate Unsuccessful"]
        detail      = { AutoScalingGroupName = local.groups }
      }
    }
    database = {
      drain = false
      pattern = {
        source      = ["aws.rds"]
        detail-type = ["RDS DB Instance Event"]
        detail = {
          SourceIdentifier = [aws_db_instance.this.identifier]
          EventCategories  = ["failover", "failure", "low storage", "recovery"]
        }
      }
    }
    scheduled-maintenance = {
      drain = true
      pattern = {
        source      = ["aws.health"]
        detail-type = ["AWS Health Event"]
        detail      = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] }
      }
    }
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.events

  name          = "${var.cluster_name}-${each.key}"
  event_pattern = jsonencode(each.value.pattern)
}

################################################################################
# People
################################################################################

resource "aws_sns_topic" "alerts" {
  name              = "${var.cluster_name}-alerts"
  kms_master_key_id = aws_kms_key.this.arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alert_emails

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_event_target" "alerts" {
  for_each = aws_cloudwatch_event_rule.this

  rule      = each.value.name
  target_id = "alerts"
  arn       = aws_sns_topic.alerts.arn

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }
}

# What EventBridge could not deliver to one of its targets; an alarm reports it, and the message says why.
resource "aws_sqs_queue" "undelivered" {
  name                      = "${var.cluster_name}-undelivered"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "undelivered" {
  statement {
    sid       = "Events"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.undelivered.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.this : rule.arn]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.undelivered.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.id
  policy    = data.aws_iam_policy_document.undelivered.json
}

data "aws_iam_policy_document" "alerts" {
  statement {
    sid       = "Events"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.this : rule.arn]
    }
  }

  statement {
    sid       = "Alarms"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]

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
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

################################################################################
# The termination handler
################################################################################

resource "aws_sqs_queue" "drain" {
  name                      = "${var.cluster_name}-drain"
  message_retention_seconds = 300 # an interruption is two minutes away, and yesterday's are of no use
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "drain" {
  statement {
    sid       = "Events"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.drain.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for name, event in local.events : aws_cloudwatch_event_rule.this[name].arn if event.drain]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.drain.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "drain" {
  queue_url = aws_sqs_queue.drain.id
  policy    = data.aws_iam_policy_document.drain.json
}

resource "aws_cloudwatch_event_target" "drain" {
  for_each = { for name, event in local.events : name => aws_cloudwatch_event_rule.this[name].name if event.drain }

  rule      = each.value
  target_id = "drain"
  arn       = aws_sqs_queue.drain.arn

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }
}

################################################################################
# Alarms: what no log of the cluster would show
################################################################################

resource "aws_cloudwatch_metric_alarm" "drains_stuck" {
  alarm_name          = "${var.cluster_name}-drains-stuck"
  alarm_description   = "Interruptions wait in the queue: the termination handler does not take them."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.drain.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 60 # seconds of the two minutes that a spot instance has
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "database_disk" {
  alarm_name          = "${var.cluster_name}-database-disk"
  alarm_description   = "Jobs and K3s stop when the database's disk is full."
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "LessThanThreshold"
  threshold           = 5 * pow(1024, 3) # bytes
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# By CloudWatch, which reaches the topic on its own: EventBridge cannot report that EventBridge does not get through.
resource "aws_cloudwatch_metric_alarm" "undelivered" {
  alarm_name          = "${var.cluster_name}-undelivered-events"
  alarm_description   = "EventBridge could not deliver to a topic or queue; the messages in ${var.cluster_name}-undelivered say why."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.undelivered.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "failed_invocations" {
  for_each = aws_cloudwatch_event_rule.this

  alarm_name          = "${each.value.name}-failed-invocations"
  alarm_description   = "Events of the rule ${each.value.name} reach no target."
  namespace           = "AWS/Events"
  metric_name         = "FailedInvocations"
  dimensions          = { RuleName = each.value.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# Instances of class t have credits; without any they are throttled to a fraction of a core, and so is K3s.
resource "aws_cloudwatch_metric_alarm" "database_credits" {
  count = startswith(var.database.instance_class, "db.t") ? 1 : 0

  alarm_name          = "${var.cluster_name}-database-credits"
  alarm_description   = "The database works above its share and is soon throttled: take a larger or another class."
  namespace           = "AWS/RDS"
  metric_name         = "CPUCreditBalance"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "LessThanThreshold"
  threshold           = 60 # a core for an hour
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# AWS renews it 60 days before; below 20 the record that it checks is gone.
resource "aws_cloudwatch_metric_alarm" "certificate" {
  count = var.domain == null ? 0 : 1

  alarm_name          = "${var.cluster_name}-certificate"
  alarm_description   = "The certificate of the API ends soon and has not been renewed."
  namespace           = "AWS/CertificateManager"
  metric_name         = "DaysToExpiry"
  dimensions          = { CertificateArn = aws_acm_certificate.this[0].arn }
  statistic           = "Minimum"
  period              = 86400
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 20 # days
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}
