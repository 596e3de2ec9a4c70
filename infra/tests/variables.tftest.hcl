# What variables refuse. Plans only: see nodes.tftest.hcl for what they make.

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

run "a_cluster_name_with_capitals" {
  command = plan

  variables {
    cluster_name = "PixTools"
  }

  expect_failures = [var.cluster_name]
}

run "a_cluster_name_too_long_for_buckets" {
  command = plan

  variables {
    cluster_name = "pixtools-in-the-far-far-east"
  }

  expect_failures = [var.cluster_name]
}

run "a_region_that_is_a_zone" {
  command = plan

  variables {
    region = "us-east-1a"
  }

  expect_failures = [var.region]
}

run "a_pattern_of_buckets" {
  command = plan

  variables {
    store_buckets = ["photos-*"]
  }

  expect_failures = [var.store_buckets]
}

run "a_reserved_tag" {
  command = plan

  variables {
    tags = { "aws:owner" = "me" }
  }

  expect_failures = [var.tags]
}

run "a_small_vpc" {
  command = plan

  variables {
    vpc_cidr = "10.20.0.0/20"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_public_vpc" {
  command = plan

  variables {
    vpc_cidr = "52.20.0.0/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_vpc_where_k3s_has_its_pods" {
  command = plan

  variables {
    vpc_cidr = "10.42.0.0/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "one_zone" {
  command = plan

  variables {
    availability_zones = 1
  }

  expect_failures = [var.availability_zones]
}

run "the_whole_internet_as_clients" {
  command = plan

  variables {
    api_client_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.api_client_cidrs]
}

run "clients_without_a_range" {
  command = plan

  variables {
    api_client_cidrs = ["10.8.0.1-10.8.0.9"]
  }

  expect_failures = [var.api_client_cidrs]
}

run "no_way_to_aws" {
  command = plan

  variables {
    egress_ports = [80]
  }

  expect_failures = [var.egress_ports]
}

run "an_unknown_architecture" {
  command = plan

  variables {
    architecture = "riscv64"
  }

  expect_failures = [var.architecture]
}

run "an_ami_by_name" {
  command = plan

  variables {
    ami_id = "al2023"
  }

  expect_failures = [var.ami_id]
}

run "k3s_by_channel" {
  command = plan

  variables {
    k3s = { version = "stable", sha256 = { x86_64 = "0000000000000000000000000000000000000000000000000000000000000000", arm64 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }

  expect_failures = [var.k3s]
}

run "a_short_checksum" {
  command = plan

  variables {
    k3s = { version = "v1.36.4+k3s1", sha256 = { x86_64 = "0000000000000000000000000000000000000000000000000000000000000000", arm64 = "" } }
  }

  expect_failures = [var.k3s]
}

run "no_server" {
  command = plan

  variables {
    servers = { count = 0 }
  }

  expect_failures = [var.servers]
}

run "half_a_server" {
  command = plan

  variables {
    servers = { count = 1.5 }
  }

  expect_failures = [var.servers]
}

run "a_server_of_another_architecture" {
  command = plan

  variables {
    servers = { instance_type = "t4g.large" }
  }

  expect_failures = [var.servers]
}

run "a_server_with_a_tiny_disk" {
  command = plan

  variables {
    servers = { disk_gib = 8 }
  }

  expect_failures = [var.servers]
}

run "a_class_that_nothing_runs_on" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c5.xlarge"] }
      gpu      = { instance_types = ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"] }
    }
  }

  expect_failures = [var.workers]
}

run "two_spot_types" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"] }
    }
  }

  expect_failures = [var.workers]
}

run "types_of_two_sizes" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c5.2xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"] }
    }
  }

  expect_failures = [var.workers]
}

run "a_worker_of_another_architecture" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c7g.xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"] }
    }
  }

  expect_failures = [var.workers]
}

run "more_at_least_than_at_most" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c5.xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"], min_size = 5, max_size = 4 }
    }
  }

  expect_failures = [var.workers]
}

run "more_than_all_on_demand" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c5.xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"], on_demand_percentage = 101 }
    }
  }

  expect_failures = [var.workers]
}

run "a_worker_with_a_tiny_disk" {
  command = plan

  variables {
    workers = {
      standard = { instance_types = ["c7i.xlarge", "c6i.xlarge", "c5.xlarge"] }
      ml       = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge"], disk_gib = 8 }
    }
  }

  expect_failures = [var.workers]
}

run "an_image_without_a_release" {
  command = plan

  variables {
    addon_images = {
      termination_handler = "images.example/aws-node-termination-handler:latest"
      cluster_autoscaler  = "images.example/cluster-autoscaler"
    }
  }

  expect_failures = [var.addon_images]
}

run "an_old_postgresql" {
  command = plan

  variables {
    database = { engine_version = "13" }
  }

  expect_failures = [var.database]
}

run "a_database_on_an_instance" {
  command = plan

  variables {
    database = { instance_class = "t4g.medium" }
  }

  expect_failures = [var.database]
}

run "a_database_that_cannot_grow" {
  command = plan

  variables {
    database = { storage_gib = 100, max_storage_gib = 50 }
  }

  expect_failures = [var.database]
}

run "no_backups" {
  command = plan

  variables {
    database = { backup_days = 0 }
  }

  expect_failures = [var.database]
}

run "objects_that_end_before_their_jobs" {
  command = plan

  variables {
    object_days = 1
  }

  expect_failures = [var.object_days]
}

run "nothing_to_bring_back" {
  command = plan

  variables {
    noncurrent_days = 0
  }

  expect_failures = [var.noncurrent_days]
}

run "an_address_that_is_none" {
  command = plan

  variables {
    alert_emails = ["operator"]
  }

  expect_failures = [var.alert_emails]
}

run "a_domain_that_is_a_url" {
  command = plan

  variables {
    domain = { host = "https://images.example.org", zone_id = "Z0123456789" }
  }

  expect_failures = [var.domain]
}

run "repositories_of_two_registries" {
  command = plan

  variables {
    ecr_repositories = ["arn:aws:ecr:eu-west-1:123456789012:repository/a", "arn:aws:ecr:us-east-1:123456789012:repository/b"]
  }

  expect_failures = [var.ecr_repositories]
}

run "a_mirror_without_tls" {
  command = plan

  variables {
    docker_hub_mirror = "http://mirror.example"
  }

  expect_failures = [var.docker_hub_mirror]
}

run "any_keda" {
  command = plan

  variables {
    keda_version = "2"
  }

  expect_failures = [var.keda_version]
}
