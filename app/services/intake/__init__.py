"""Accepting work: from the bytes of a request to a job in the database."""
