"""Costs and waiting times of autoscaled spot workers, compared with fleets of a fixed size."""
