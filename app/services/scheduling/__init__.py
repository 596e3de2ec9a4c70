"""Whose turn it is: a bounded window of the due work in the broker, filled fairly."""
