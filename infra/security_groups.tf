################################################################################
# Groups: who may talk to whom, by reference and not by address
################################################################################

resource "aws_security_group" "load_balancer" {
  name        = "${var.cluster_name}-load-balancer"
  description = "The internal load balancer"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "nodes" {
  name        = "${var.cluster_name}-nodes"
  description = "Every node"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "servers" {
  name        = "${var.cluster_name}-servers"
  description = "K3s servers, besides the group of every node"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "database" {
  name        = "${var.cluster_name}-database"
  description = "PostgreSQL"
  vpc_id      = aws_vpc.this.id
}

locals {
  kubernetes_api = 6443
  ingress        = 443

  # group <- its peer: what is let in, and with `mirrored`, out of the peer too
  ingress_from_groups = {
    "load-balancer-kubernetes-nodes" = { group = "load_balancer", peer = "nodes", protocol = "tcp", port = local.kubernetes_api }
    "servers-kubernetes-balancer"    = { group = "servers", peer = "load_balancer", protocol = "tcp", port = local.kubernetes_api }
    "servers-ingress-balancer"       = { group = "servers", peer = "load_balancer", protocol = "tcp", port = local.ingress }
    # Once an agent has joined it knows every server and needs the load balancer no more.
    "servers-kubernetes-nodes" = { group = "servers", peer = "nodes", protocol = "tcp", port = local.kubernetes_api }
    "nodes-vxlan"              = { group = "nodes", peer = "nodes", protocol = "udp", port = 8472 }
    "nodes-kubelet"            = { group = "nodes", peer = "nodes", protocol = "tcp", port = 10250 }
    "database-postgresql"      = { group = "database", peer = "nodes", protocol = "tcp", port = 5432 }
  }

  security_groups = {
    load_balancer = aws_security_group.load_balancer.id
    nodes         = aws_security_group.nodes.id
    servers       = aws_security_group.servers.id
    database      = aws_security_group.database.id
  }
}

################################################################################
# Both ends of each connection
################################################################################

resource "aws_vpc_security_group_ingress_rule" "from_group" {
  for_each = local.ingress_from_groups

  security_group_id            = local.security_groups[each.value.group]
  referenced_security_group_id = local.security_groups[each.value.peer]
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "to_group" {
  for_each = local.ingress_from_groups

  security_group_id            = local.security_groups[each.value.peer]
  referenced_security_group_id = local.security_groups[each.value.group]
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
}

################################################################################
# In: clients of the API within the VPC, or in ranges that were named
################################################################################

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = setunion([var.vpc_cidr], var.api_client_cidrs)

  security_group_id = aws_security_group.load_balancer.id
  description       = "Clients of the API"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = local.ingress
  to_port           = local.ingress
}

################################################################################
# Out: AWS, images and webhooks. DNS and time are the VPC's own and pass no security group
################################################################################

resource "aws_vpc_security_group_egress_rule" "internet" {
  for_each = toset([for port in var.egress_ports : tostring(port)])

  security_group_id = aws_security_group.nodes.id
  description       = "AWS, images and webhooks"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
}
