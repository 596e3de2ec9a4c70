################################################################################
# One PostgreSQL for jobs and for K3s' state, each in its own database with its own role
################################################################################

resource "aws_db_subnet_group" "this" {
  name       = var.cluster_name
  subnet_ids = [for subnet in aws_subnet.database : subnet.id]
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.cluster_name}-"
  family      = "postgres${split(".", var.database.engine_version)[0]}"
  description = "TLS only"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # milliseconds
  }

  # K3s and PixTools hold short transactions; what stays open was forgotten and holds rows back from vacuum.
  parameter {
    name  = "idle_in_transaction_session_timeout"
    value = "300000" # milliseconds
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Made here and not by RDS, whose groups keep everything for ever.
resource "aws_cloudwatch_log_group" "database" {
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.cluster_name}/${each.key}"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_133: database.backup_days, at least 1
  #checkov:skip=CKV_AWS_157: database.multi_az, on by default
  #checkov:skip=CKV_AWS_161: K3s and PixTools know passwords, not IAM tokens that end after 15 minutes
  identifier     = var.cluster_name
  engine         = "postgres"
  engine_version = var.database.engine_version
  instance_class = var.database.instance_class
  multi_az       = var.database.multi_az

  allocated_storage     = var.database.storage_gib
  max_allocated_storage = var.database.max_storage_gib
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.this.arn

  # RDS makes, keeps and rotates this password. It only creates the two roles that are used: templates/boot.sh.
  username                      = "postgres"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.this.arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  parameter_group_name   = aws_db_parameter_group.this.name
  publicly_accessible    = false

  backup_retention_period    = var.database.backup_days
  backup_window              = "03:00-04:00"
  maintenance_window         = "sun:04:30-sun:05:30"
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  deletion_protection        = var.protected
  skip_final_snapshot        = !var.protected
  final_snapshot_identifier  = "${var.cluster_name}-final"

  enabled_cloudwatch_logs_exports       = keys(aws_cloudwatch_log_group.database)
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.this.arn
  performance_insights_retention_period = 7 # days; the free ones
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.database_monitoring.arn
}
