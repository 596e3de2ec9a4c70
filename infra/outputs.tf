# Names and addresses only: `settings.sh` reads what is secret from where it is kept.

output "cluster_name" {
  description = "Prefix of every name."
  value       = var.cluster_name
}

output "region" {
  description = "Where all of it stands."
  value       = var.region
}

output "api_address" {
  description = "Internal load balancer: HTTPS for clients of the API, 6443 for Kubernetes."
  value       = aws_lb.this.dns_name
}

output "image_bucket" {
  description = "Bucket of uploads and results."
  value       = aws_s3_bucket.this["images"].id
}

output "manifest_bucket" {
  description = "Servers apply what lies in it below addons/."
  value       = aws_s3_bucket.this["manifests"].id
}

output "database_address" {
  description = "Host of PostgreSQL."
  value       = aws_db_instance.this.address
}

output "application_user" {
  description = "IAM user whose key PixTools signs with."
  value       = aws_iam_user.this["application"].name
}

output "alertmanager_user" {
  description = "IAM user whose key Alertmanager publishes with."
  value       = aws_iam_user.this["alertmanager"].name
}

output "alerts_topic" {
  description = "ARN of the SNS topic of interruptions and alarms."
  value       = aws_sns_topic.alerts.arn
}

output "drain_queue" {
  description = "URL of the queue that the termination handler reads."
  value       = aws_sqs_queue.drain.url
}

output "vpc_id" {
  description = "For peering, VPNs and gateways."
  value       = aws_vpc.this.id
}
