"""Scheduling: a bounded window of the due work is in the broker, and is filled fairly."""
