"""Scheduling: only a window of the due work is in the broker, and it is filled fairly."""
