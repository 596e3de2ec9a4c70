"""Drills: what an operator sees and does when a part of a cluster fails, with real servers on this machine."""
