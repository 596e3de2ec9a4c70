"""What a job costs PostgreSQL, by the service's own code, with few and with many jobs in its tables."""
