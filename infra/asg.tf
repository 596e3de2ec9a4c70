################################################################################
# What a node is made of
################################################################################

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0

  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${var.architecture}"
}

locals {
  ami = var.ami_id != null ? var.ami_id : data.aws_ssm_parameter.ami[0].insecure_value

  # Host of the registry of ECR that images are pulled from; none if they come from another.
  registry = join("", distinct([for arn in var.ecr_repositories :
    "${split(":", arn)[4]}.dkr.ecr.${split(":", arn)[3]}.amazonaws.com"
  ]))

  node_classes = merge(
    { server = { role = "server", disk_gib = var.servers.disk_gib, groups = [aws_security_group.nodes.id, aws_security_group.servers.id] } },
    { for class, settings in var.workers : class => {
      role = "worker", disk_gib = settings.disk_gib, groups = [aws_security_group.nodes.id]
    } },
  )

  user_data = { for class in keys(local.node_classes) : class => templatefile("${path.module}/templates/user-data.sh.tftpl", {
    settings = {
      CLUSTER       = var.cluster_name
      REGION        = var.region
      NODE_CLASS    = class
      SERVERS       = var.servers.count
      BUCKET        = local.buckets.manifests
      K3S_SHA256    = local.artifacts["k3s"]
      IMAGES_SHA256 = local.artifacts["k3s-images.tar.zst"]
      CA_SHA256     = local.artifacts["rds-ca.pem"]
      REGISTRY      = local.registry
      MIRROR        = var.docker_hub_mirror
    }
    script = file("${path.module}/templates/boot.sh")
  }) }

  # Seconds. Boot takes two to three minutes; who has not said by then that it works is replaced.
  boot_timeout = 900
  # Above the grace period of every pod: the termination handler ends the wait as soon as a node is drained.
  drain_timeout = 300
}

resource "aws_launch_template" "node" {
  for_each = local.node_classes

  name                   = "${var.cluster_name}-${each.key}"
  image_id               = local.ami
  update_default_version = true
  ebs_optimized          = true
  vpc_security_group_ids = each.value.groups

  # EC2 takes 16 KiB, and cloud-init unpacks.
  user_data = base64gzip(local.user_data[each.key])

  iam_instance_profile {
    arn = aws_iam_instance_profile.node[each.value.role].arn
  }

  # Version 2 alone, and only for the node itself: a pod is one hop further away.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      # AWS' own key: with ours, every account would first have to let Auto Scaling's role use it.
      encrypted             = true
      volume_type           = "gp3"
      volume_size           = each.value.disk_gib
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = { Name = "${var.cluster_name}-${each.key}" }
    }
  }
}

################################################################################
# Servers: on demand, a fixed number
################################################################################

resource "aws_autoscaling_group" "server" {
  name                = "${var.cluster_name}-server"
  min_size            = var.servers.count
  max_size            = var.servers.count + 1 # room to replace one
  desired_capacity    = var.servers.count
  vpc_zone_identifier = [for subnet in aws_subnet.nodes : subnet.id]
  target_group_arns   = [for group in aws_lb_target_group.this : group.arn]

  # Not the load balancer's opinion: while the database fails over every server looks ill, and none would be left.
  health_check_type         = "EC2"
  health_check_grace_period = 300
  wait_for_capacity_timeout = "0"

  launch_template {
    id      = aws_launch_template.node["server"].id
    version = aws_launch_template.node["server"].latest_version
  }

  initial_lifecycle_hook {
    name                 = "boot"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = local.boot_timeout
    default_result       = "ABANDON"
  }

  dynamic "tag" {
    for_each = local.group_tags["server"]

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # A node that starts before this exists could not read, drain or reach what it needs.
  depends_on = [
    aws_iam_role_policy.node, aws_iam_role_policy.server, aws_route.nat, aws_ssm_parameter.this,
    aws_s3_object.addon, aws_s3_object.artifact, aws_vpc_endpoint.s3,
  ]
}

################################################################################
# Workers: spot instances of many types; the cluster autoscaler sets their number
################################################################################

resource "aws_autoscaling_group" "worker" {
  for_each = var.workers

  name                = "${var.cluster_name}-${each.key}"
  min_size            = each.value.min_size
  max_size            = each.value.max_size
  vpc_zone_identifier = [for subnet in aws_subnet.nodes : subnet.id]

  # A new node is started when AWS sees an interruption coming, before it takes the old one.
  capacity_rebalance        = true
  health_check_type         = "EC2"
  health_check_grace_period = 300
  wait_for_capacity_timeout = "0"
  # Balance between zones is not worth ending a worker that works.
  suspended_processes = ["AZRebalance"]

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = each.value.on_demand_percentage
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.node[each.key].id
        version            = aws_launch_template.node[each.key].latest_version
      }

      dynamic "override" {
        for_each = each.value.instance_types

        content {
          instance_type = override.value
        }
      }
    }
  }

  initial_lifecycle_hook {
    name                 = "boot"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = local.boot_timeout
    default_result       = "ABANDON"
  }

  dynamic "tag" {
    for_each = local.group_tags[each.key]

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }

  depends_on = [
    aws_iam_role_policy.node, aws_route.nat, aws_ssm_parameter.this, aws_s3_object.artifact, aws_vpc_endpoint.s3,
  ]
}

# Holds a node back from its end until its pods have left it.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  for_each = aws_autoscaling_group.worker

  name                   = "drain"
  autoscaling_group_name = each.value.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = local.drain_timeout
  default_result         = "CONTINUE"
}

locals {
  # The autoscaler learns from these what a node of an empty group would be like.
  autoscaler_tags = { for class in keys(var.workers) : class => {
    "k8s.io/cluster-autoscaler/enabled"                                    = "true"
    "k8s.io/cluster-autoscaler/${var.cluster_name}"                        = "owned"
    "k8s.io/cluster-autoscaler/node-template/label/pixtools.io/node-class" = class
    "k8s.io/cluster-autoscaler/node-template/taint/pixtools.io/spot"       = "true:NoSchedule"
    "k8s.io/cluster-autoscaler/node-template/resources/ephemeral-storage"  = "${var.workers[class].disk_gib}G"
    "aws-node-termination-handler/managed"                                 = "true"
  } }

  group_tags = { for class in keys(local.node_classes) : class => merge(
    { Project = "pixtools", Cluster = var.cluster_name, Name = "${var.cluster_name}-${class}" },
    var.tags,
    lookup(local.autoscaler_tags, class, {}),
  ) }
}

################################################################################
# One fixed address for agents that join and for clients of the API, inside the VPC only. With a `domain` it has a name
# and a certificate, which AWS renews; otherwise the one of the Secret `pixtools-tls` is served
################################################################################

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_91: a network load balancer logs TLS listeners only, and TLS ends in the cluster
  name                             = var.cluster_name
  internal                         = true
  load_balancer_type               = "network"
  security_groups                  = [aws_security_group.load_balancer.id]
  subnets                          = [for subnet in aws_subnet.nodes : subnet.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.protected
}

resource "aws_lb_target_group" "this" {
  for_each = { kubernetes = local.kubernetes_api, ingress = local.ingress }

  name                 = "${var.cluster_name}-${each.key}"
  vpc_id               = aws_vpc.this.id
  protocol             = each.key == "ingress" && var.domain != null ? "TLS" : "TCP"
  port                 = each.value
  deregistration_delay = 30

  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "this" {
  #checkov:skip=CKV_AWS_2: a network load balancer passes TCP on to TLS in the cluster, or ends TLS itself with a domain
  #checkov:skip=CKV_AWS_103: the same; with a domain it is TLS 1.3, or 1.2
  for_each = aws_lb_target_group.this

  load_balancer_arn = aws_lb.this.arn
  protocol          = each.value.protocol
  port              = each.value.port
  certificate_arn   = each.value.protocol == "TLS" ? aws_acm_certificate_validation.this[0].certificate_arn : null
  ssl_policy        = each.value.protocol == "TLS" ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null

  default_action {
    type             = "forward"
    target_group_arn = each.value.arn
  }
}

resource "aws_acm_certificate" "this" {
  count = var.domain == null ? 0 : 1

  domain_name       = var.domain.host
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  count = var.domain == null ? 0 : 1

  zone_id         = var.domain.zone_id
  name            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.this[0].domain_validation_options).resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  count = var.domain == null ? 0 : 1

  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = [aws_route53_record.validation[0].fqdn]
}

resource "aws_route53_record" "api" {
  count = var.domain == null ? 0 : 1

  zone_id = var.domain.zone_id
  name    = var.domain.host
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}
