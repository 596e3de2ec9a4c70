"""Benchmarks of PixTools and its peers: `python -m benchmarks` lists them."""
