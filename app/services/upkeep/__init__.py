"""Periodic work: repairs and removals."""
