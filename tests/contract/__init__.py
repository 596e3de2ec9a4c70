"""What the API answers, held against its own description."""
