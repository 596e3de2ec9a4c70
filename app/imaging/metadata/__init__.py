"""What a file says besides its pixels."""
