"""Staged outages: real processes and servers, a real Prometheus, and the shipped rules."""
