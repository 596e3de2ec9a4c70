"""Monitoring: health checks, gauges and the timeline of a job."""
