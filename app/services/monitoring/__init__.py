"""How the service is doing: health checks, gauges and the timeline of a job."""
