"""What PixTools costs and what its peers cost: `python -m benchmarks` lists what can be measured."""
