"""Running one planned task in a worker."""
