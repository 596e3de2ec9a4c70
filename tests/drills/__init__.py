"""Drills: what an operator sees and does when a part of a cluster fails, on real servers of this machine."""
