"""Damaged and odd files by seed, and what they are held against."""
