################################################################################
# What it is called and where it stands
################################################################################

variable "cluster_name" {
  description = "Prefix of every name; one account can hold several clusters."
  type        = string
  default     = "pixtools"
  nullable    = false

  validation {
    # Bucket names carry it, the account's number and the region within 63 characters.
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.cluster_name))
    error_message = "cluster_name has 3 to 20 lower-case letters, digits and hyphens, and starts with a letter."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region looks like us-east-1."
  }
}

variable "tags" {
  description = "More tags for everything that can have them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !anytrue([for key in keys(var.tags) : startswith(lower(key), "aws:")])
    error_message = "Tags that start with aws: are reserved."
  }
}

variable "protected" {
  description = "Whether database, load balancer and buckets refuse to be destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "simulator" {
  description = "For a local AWS simulator named by AWS_ENDPOINT_URL: no checks of credentials, buckets in paths."
  type        = bool
  default     = false
  nullable    = false
}

################################################################################
# Network
################################################################################

variable "vpc_cidr" {
  description = "Address range of the VPC, a private /16."
  type        = string
  default     = "10.20.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && endswith(var.vpc_cidr, "/16")
    error_message = "vpc_cidr is an IPv4 range that ends in /16."
  }

  validation {
    condition = can(cidrhost(var.vpc_cidr, 0)) ? anytrue([
      cidrhost("${cidrhost(var.vpc_cidr, 0)}/8", 0) == "10.0.0.0",
      cidrhost("${cidrhost(var.vpc_cidr, 0)}/12", 0) == "172.16.0.0",
      cidrhost("${cidrhost(var.vpc_cidr, 0)}/16", 0) == "192.168.0.0",
    ]) : true
    error_message = "vpc_cidr lies in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }

  validation {
    condition     = !contains(["10.42.", "10.43."], substr(var.vpc_cidr, 0, 6))
    error_message = "10.42.0.0/16 and 10.43.0.0/16 are K3s' pods and services."
  }
}

variable "availability_zones" {
  description = "Over how many availability zones subnets, nodes and the database spread."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([2, 3, 4], var.availability_zones)
    error_message = "availability_zones is 2, 3 or 4; the database needs two."
  }
}

variable "nat_gateway_per_zone" {
  description = "A NAT gateway in each zone instead of one for all: webhooks and image pulls survive the loss of a zone."
  type        = bool
  default     = false
  nullable    = false
}

variable "domain" {
  description = "Host of the API and its hosted zone in Route 53: a record and a certificate that AWS renews; null for others."
  type        = object({ host = string, zone_id = string })
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain.host))
    error_message = "domain.host looks like images.example.org."
  }
}

variable "api_client_cidrs" {
  description = "Private ranges that may reach the API besides the VPC itself: a VPN, peered VPCs."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.api_client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "api_client_cidrs holds ranges such as 10.8.0.0/16."
  }

  validation {
    # An API without a key answers every client that reaches it.
    condition     = !anytrue([for cidr in var.api_client_cidrs : endswith(cidr, "/0")])
    error_message = "The API is not for the whole internet; put a gateway that knows its users in front."
  }
}

variable "egress_ports" {
  description = "TCP ports that nodes may reach outside the VPC. Webhooks can be posted to these alone."
  type        = set(number)
  default     = [80, 443]
  nullable    = false

  validation {
    condition     = contains(var.egress_ports, 443) && alltrue([for port in var.egress_ports : port > 0 && port < 65536])
    error_message = "egress_ports holds 443, which nodes are installed through, and other TCP ports."
  }
}

variable "store_buckets" {
  description = "Buckets of users in this region that their stores name. The S3 endpoint lets no other ones through."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for bucket in var.store_buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "store_buckets holds names of buckets, and no patterns."
  }
}

################################################################################
# Nodes
################################################################################

variable "architecture" {
  description = "Of every node: x86_64 or arm64. The images must have been built for it."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture is x86_64 or arm64."
  }
}

variable "ami_id" {
  description = "Image of the nodes, Amazon Linux 2023; default: the newest at the time of each plan."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id looks like ami-0123456789abcdef0."
  }
}

variable "k3s" {
  description = "Release of K3s and the SHA-256 of its binaries, as in the release's sha256sum-*.txt."
  type = object({
    version = string
    sha256  = object({ x86_64 = string, arm64 = string })
  })
  default = {
    version = "v1.36.4+k3s1"
    sha256 = {
      x86_64 = "835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f"
      arm64  = "c920706346d5ad4e5cd3c7bf1bb09ce71ebe07fec829e513e40f1caf98aed8bb"
    }
  }
  nullable = false

  validation {
    condition     = can(regex("^v1\\.[0-9]+\\.[0-9]+\\+k3s[0-9]+$", var.k3s.version))
    error_message = "k3s.version is one exact release, such as v1.36.4+k3s1."
  }

  validation {
    condition     = alltrue([for sum in values(var.k3s.sha256) : can(regex("^[0-9a-f]{64}$", sum))])
    error_message = "A SHA-256 has 64 hexadecimal digits."
  }
}

variable "servers" {
  description = "The on-demand nodes: K3s servers, and whatever must not be interrupted. Their state is in the database."
  type = object({
    count         = optional(number, 2)
    instance_type = optional(string, "t3a.large")
    disk_gib      = optional(number, 60) # 20 of claims, a share of spools, images and logs
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.servers.count >= 1 && var.servers.count <= 5 && floor(var.servers.count) == var.servers.count
    error_message = "There are 1 to 5 servers."
  }

  validation {
    condition     = can(regex("^[a-z]+[0-9]g[a-z]*\\.", var.servers.instance_type)) == (var.architecture == "arm64")
    error_message = "servers.instance_type is not of this architecture."
  }

  validation {
    condition     = var.servers.disk_gib >= 50
    error_message = "A server's disk has at least 50 GiB: claims of 20, images, spools and logs."
  }
}

variable "workers" {
  description = "The spot nodes by class. Within a class all types have the same size, as the cluster autoscaler counts on it."
  type = map(object({
    instance_types       = list(string)
    min_size             = optional(number, 0)
    max_size             = optional(number, 10)
    on_demand_percentage = optional(number, 0)
    disk_gib             = optional(number, 60)
  }))
  default = {
    standard = {
      instance_types = ["c6a.xlarge", "c6i.xlarge", "c7a.xlarge", "c7i.xlarge", "c5a.xlarge", "c5.xlarge"]
      min_size       = 1
    }
    ml = {
      instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c7a.2xlarge", "c6a.2xlarge", "c5.2xlarge", "c5a.2xlarge"]
      max_size       = 4
    }
  }
  nullable = false

  validation {
    condition     = toset(keys(var.workers)) == toset(["standard", "ml"])
    error_message = "The classes are standard and ml; k8s/ places its pods on them."
  }

  validation {
    # Each type in each zone is a pool of spare capacity; the more pools, the rarer interruptions.
    condition     = alltrue([for class in var.workers : length(distinct(class.instance_types)) >= 3])
    error_message = "A class draws from at least three instance types."
  }

  validation {
    condition     = alltrue([for class in var.workers : length(distinct([for type in class.instance_types : split(".", type)[1]])) == 1])
    error_message = "The types of a class are all of one size, such as xlarge."
  }

  validation {
    condition = alltrue(flatten([for class in var.workers : [for type in class.instance_types :
      can(regex("^[a-z]+[0-9]g[a-z]*\\.", type)) == (var.architecture == "arm64")
    ]]))
    error_message = "A class names an instance type that is not of this architecture."
  }

  validation {
    condition = alltrue([for class in var.workers :
      class.min_size >= 0 && class.max_size >= 1 && class.min_size <= class.max_size
    ])
    error_message = "Sizes run from min_size, at least 0, to max_size, at least 1."
  }

  validation {
    condition     = alltrue([for class in var.workers : class.on_demand_percentage >= 0 && class.on_demand_percentage <= 100])
    error_message = "on_demand_percentage lies between 0 and 100."
  }

  validation {
    condition     = alltrue([for class in var.workers : class.disk_gib >= 20])
    error_message = "A worker's disk has at least 20 GiB: images and the spool."
  }
}

variable "artifacts" {
  description = "Folder that fetch.sh has filled: K3s, the images of its own pods, the certificates of RDS."
  type        = string
  default     = "artifacts"
  nullable    = false
}

variable "keda_version" {
  description = "Release of KEDA's chart, which servers install."
  type        = string
  default     = "2.20.2"
  nullable    = false

  validation {
    condition     = can(regex("^2\\.[0-9]+\\.[0-9]+$", var.keda_version))
    error_message = "keda_version is one exact release, such as 2.20.2."
  }
}

variable "ecr_repositories" {
  description = "ARNs of the repositories of ECR that images are pulled from; none for other registries."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for arn in var.ecr_repositories :
      can(regex("^arn:aws[a-z-]*:ecr:[a-z0-9-]+:[0-9]{12}:repository/.+$", arn))
    ]) && length(distinct([for arn in var.ecr_repositories : join(":", slice(split(":", "${arn}:::::"), 0, 5))])) <= 1
    error_message = "ecr_repositories holds ARNs of repositories, all of one registry."
  }
}

variable "docker_hub_mirror" {
  description = "URL of a mirror of Docker Hub, which limits who pulls without an account; empty for none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(https://[A-Za-z0-9./:_-]+)?$", var.docker_hub_mirror))
    error_message = "docker_hub_mirror is empty or looks like https://mirror.example."
  }
}

variable "addon_images" {
  description = "Images of what runs in the cluster on behalf of AWS, with tag or digest; README.md names the releases."
  type = object({
    termination_handler = string
    cluster_autoscaler  = string
  })
  nullable = false

  validation {
    condition = alltrue([for image in values(var.addon_images) :
      can(regex("^[a-z0-9./:-]+(:v?[0-9][A-Za-z0-9.-]*|@sha256:[0-9a-f]{64})$", image))
    ])
    error_message = "An image ends in the tag of one release or in @sha256: and its digest."
  }
}

################################################################################
# Database and storage
################################################################################

variable "database" {
  description = "The PostgreSQL instance that holds jobs and K3s' state."
  type = object({
    engine_version  = optional(string, "17")
    instance_class  = optional(string, "db.t4g.medium")
    multi_az        = optional(bool, true)
    storage_gib     = optional(number, 40)
    max_storage_gib = optional(number, 200)
    backup_days     = optional(number, 14)
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^1[6-9](\\.[0-9]+)?$", var.database.engine_version))
    error_message = "database.engine_version is PostgreSQL 16 or newer."
  }

  validation {
    condition     = startswith(var.database.instance_class, "db.")
    error_message = "database.instance_class looks like db.t4g.medium."
  }

  validation {
    condition     = var.database.storage_gib >= 20 && var.database.max_storage_gib >= var.database.storage_gib
    error_message = "database.storage_gib is at least 20 and not above max_storage_gib."
  }

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database.backup_days lies between 1 and 35."
  }
}

variable "object_days" {
  description = "When objects of jobs are removed that PixTools did not; above PIXTOOLS_RESULTS_KEPT_SECONDS."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.object_days >= 2 && floor(var.object_days) == var.object_days
    error_message = "object_days is at least 2: results are kept for a day by default."
  }
}

variable "noncurrent_days" {
  description = "How long an overwritten or removed object can be brought back; it is paid for as long."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days is at least 1."
  }
}

################################################################################
# Alerts
################################################################################

variable "alert_emails" {
  description = "Addresses that get interruptions and failures; each has to confirm once."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails holds e-mail addresses."
  }
}
