"""What autoscaled spot workers cost, and how long jobs wait for them, next to fleets of a fixed size."""
