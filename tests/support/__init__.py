"""Support for the tests: real servers, a faulty network, and fixtures for both."""
