"""The metadata of files."""
