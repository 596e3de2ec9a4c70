"""Staged outages: real processes and servers, a real Prometheus, and the rules that are shipped."""
