"""What runs by a timer: repairs and removals."""
