"""Colour spaces and profiles."""
