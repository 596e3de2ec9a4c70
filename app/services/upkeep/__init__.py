"""Periodic background work: repairs, removals and accounting."""
