# What is made of the variables.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  addon_images = {
    termination_handler = "images.example/aws-node-termination-handler:v1.25.3"
    cluster_autoscaler  = "images.example/cluster-autoscaler:v1.36.1"
  }

  # fetch.sh fills a folder of its own.
  artifacts = "./tests/artifacts"
  k3s = {
    version = "v1.36.4+k3s1"
    sha256 = {
      x86_64 = "ee106367bf5f0ed17a4066d72acde13b2d6163be0f9923f2a32b8a96c61713c5"
      arm64  = "ee106367bf5f0ed17a4066d72acde13b2d6163be0f9923f2a32b8a96c61713c5"
    }
  }
}

run "by_default" {
  command = apply

  assert {
    condition     = keys(aws_subnet.nodes) == ["us-east-1a", "us-east-1b"]
    error_message = "The first two zones by name hold the nodes."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1
    error_message = "One NAT gateway serves all zones."
  }

  assert {
    condition     = [for found in data.aws_iam_policy_document.s3_endpoint.statement : found.sid] == ["OwnBuckets", "PackagesAndImageLayers"]
    error_message = "The S3 endpoint lets nobody's buckets through."
  }

  assert {
    condition = length(distinct(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.nodes : subnet.cidr_block],
      [for subnet in aws_subnet.database : subnet.cidr_block],
    ))) == 6
    error_message = "Every subnet has its own range."
  }

  assert {
    condition = alltrue([for template in aws_launch_template.node :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "The metadata service answers tokens only, and only the node itself."
  }

  assert {
    condition     = alltrue([for template in aws_launch_template.node : template.block_device_mappings[0].ebs[0].encrypted == "true"])
    error_message = "Every disk is encrypted."
  }

  assert {
    condition     = alltrue([for template in aws_launch_template.node : length(template.user_data) < 12288])
    error_message = "EC2 takes no more than 16 KiB of user data; this is far below it in base64."
  }

  assert {
    condition     = alltrue([for class, script in local.user_data : strcontains(script, "readonly NODE_CLASS='${class}'\n")])
    error_message = "A node knows its class."
  }

  assert {
    condition = alltrue([for group in aws_autoscaling_group.worker :
      group.capacity_rebalance &&
      group.mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 0 &&
      group.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0
    ])
    error_message = "Workers are spot instances that are replaced before they are taken."
  }

  assert {
    condition     = length(aws_autoscaling_group.server.mixed_instances_policy) == 0
    error_message = "Servers are on demand."
  }

  assert {
    condition     = keys(aws_autoscaling_lifecycle_hook.drain) == ["ml", "standard"]
    error_message = "Every group of workers waits until a node is drained."
  }

  assert {
    condition     = one([for tag in aws_autoscaling_group.worker["ml"].tag : tag.value if endswith(tag.key, "taint/pixtools.io/spot")]) == "true:NoSchedule"
    error_message = "The autoscaler knows the taint of a node that is not there yet."
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_event_target.drain)) == toset(["spot-interruption", "node-terminating", "scheduled-maintenance"])
    error_message = "What ends a node drains it; a recommendation alone does not."
  }

  assert {
    condition     = length(aws_cloudwatch_event_target.alerts) == 7
    error_message = "People hear of all of it."
  }

  assert {
    condition = alltrue([for target in concat(values(aws_cloudwatch_event_target.alerts), values(aws_cloudwatch_event_target.drain)) :
      length(target.dead_letter_config) == 1
    ]) && keys(aws_cloudwatch_metric_alarm.failed_invocations) == keys(aws_cloudwatch_event_rule.this)
    error_message = "What EventBridge cannot deliver is kept, and an alarm reports it."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.database_credits) == 1 && length(aws_cloudwatch_metric_alarm.certificate) == 0
    error_message = "A database that lives on credits is watched; a certificate that is not AWS' own cannot be."
  }

  assert {
    condition     = [for listener in aws_lb_listener.this : listener.protocol] == ["TCP", "TCP"]
    error_message = "TLS ends in the cluster."
  }

  assert {
    condition = alltrue([for script in local.user_data : alltrue([for object in aws_s3_object.artifact :
      strcontains(script, "='${object.source_hash}'\n")
    ])])
    error_message = "A node knows the checksums of what it is made of."
  }

  assert {
    condition     = alltrue([for name, object in aws_s3_object.artifact : endswith(object.key, "/${substr(object.source_hash, 0, 12)}/${name}")])
    error_message = "boot.sh looks for an artifact by its checksum."
  }

  assert {
    condition     = strcontains(aws_s3_object.addon["keda.yaml"].content, "version: ${var.keda_version}\n")
    error_message = "KEDA has one release."
  }

  assert {
    condition     = yamldecode(yamldecode(aws_s3_object.addon["traefik.yaml"].content).spec.valuesContent).ports.websecure.transport.respondingTimeouts.readTimeout == "1800s"
    error_message = "An upload has half an hour."
  }

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && aws_db_instance.this.deletion_protection && aws_db_instance.this.multi_az &&
      aws_db_instance.this.manage_master_user_password && !aws_db_instance.this.publicly_accessible &&
      !aws_db_instance.this.skip_final_snapshot
    )
    error_message = "The database is encrypted, protected, doubled and private, and its password is not ours."
  }

  assert {
    condition     = contains([for parameter in aws_db_parameter_group.this.parameter : parameter.value if parameter.name == "rds.force_ssl"], "1")
    error_message = "Without TLS there is no access."
  }

  assert {
    condition     = !anytrue([for bucket in aws_s3_bucket.this : bucket.force_destroy]) && aws_lb.this.internal
    error_message = "Buckets keep their objects, and the load balancer is private."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.clients : rule.cidr_ipv4] == ["10.20.0.0/16"]
    error_message = "Only the VPC reaches the API."
  }
}

run "three_zones_with_a_gateway_each" {
  command = apply

  variables {
    availability_zones   = 3
    nat_gateway_per_zone = true
  }

  assert {
    condition     = length(aws_subnet.database) == 3 && length(aws_nat_gateway.this) == 3 && length(aws_route.nat) == 3
    error_message = "Each zone has its own way out."
  }
}

run "a_domain" {
  command = apply

  variables {
    domain = { host = "images.example.org", zone_id = "Z0123456789" }
  }

  assert {
    condition = (
      aws_lb_listener.this["ingress"].protocol == "TLS" && aws_lb_target_group.this["ingress"].protocol == "TLS" &&
      aws_lb_listener.this["kubernetes"].protocol == "TCP" &&
      aws_route53_record.api[0].name == "images.example.org" && length(aws_cloudwatch_metric_alarm.certificate) == 1
    )
    error_message = "The host has an address and a certificate that AWS renews and watches; Kubernetes keeps its own."
  }
}

run "images_from_ecr" {
  command = apply

  variables {
    ecr_repositories  = ["arn:aws:ecr:eu-west-1:123456789012:repository/pixtools-api", "arn:aws:ecr:eu-west-1:123456789012:repository/pixtools-worker"]
    docker_hub_mirror = "https://mirror.example"
  }

  assert {
    condition = alltrue([for script in local.user_data :
      strcontains(script, "REGISTRY='123456789012.dkr.ecr.eu-west-1.amazonaws.com'\n") &&
      strcontains(script, "MIRROR='https://mirror.example'\n")
    ])
    error_message = "Nodes know the registry that they have to get a password for, and the mirror."
  }
}

run "nothing_fetched" {
  command = plan

  variables {
    artifacts = "./tests"
  }

  expect_failures = [aws_s3_object.artifact]
}

run "another_release_fetched" {
  command = plan

  variables {
    k3s = {
      version = "v1.36.4+k3s1"
      sha256  = { x86_64 = "835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f", arm64 = "c920706346d5ad4e5cd3c7bf1bb09ce71ebe07fec829e513e40f1caf98aed8bb" }
    }
  }

  expect_failures = [aws_s3_object.artifact]
}

run "graviton" {
  command = apply

  variables {
    architecture = "arm64"
    servers      = { instance_type = "t4g.large" }
    workers = {
      standard = { instance_types = ["c7g.xlarge", "c6g.xlarge", "c6gn.xlarge"] }
      ml       = { instance_types = ["c7g.2xlarge", "c6g.2xlarge", "c7gd.2xlarge"] }
    }
  }

  assert {
    condition     = alltrue([for script in local.user_data : strcontains(script, var.k3s.sha256.arm64)])
    error_message = "The binary is of the nodes' architecture."
  }
}

run "unprotected" {
  command = apply

  variables {
    protected = false
  }

  assert {
    condition = (
      aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.deletion_protection &&
      alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy]) &&
      alltrue([for secret in aws_secretsmanager_secret.this : secret.recovery_window_in_days == 0])
    )
    error_message = "Nothing stands in the way of `terraform destroy`."
  }
}

run "with_stores_of_users" {
  command = plan

  variables {
    store_buckets = ["photos"]
  }

  assert {
    condition     = data.aws_iam_policy_document.s3_endpoint.statement[1].resources == toset(["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"])
    error_message = "The S3 endpoint lets the named buckets through."
  }

  assert {
    condition     = !contains(data.aws_iam_policy_document.s3_endpoint.statement[1].actions, "s3:DeleteObject")
    error_message = "Nothing deletes objects of users."
  }
}
