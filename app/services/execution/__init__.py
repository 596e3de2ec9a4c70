"""Execution of one planned task in a worker."""
