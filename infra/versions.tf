terraform {
  # 1.9: validations may look at other variables.
  required_version = ">= 1.9, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # State belongs in an encrypted, versioned bucket with locking: README.md, "State".
}
