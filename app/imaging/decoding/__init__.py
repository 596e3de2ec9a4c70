"""Decoding: from files to pixels."""
