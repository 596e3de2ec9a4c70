"""What the tests need besides PixTools itself: real servers, a faulty network and fixtures for both."""
