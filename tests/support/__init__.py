"""Support for the tests: real servers, faulty networks, fixtures and helpers."""
