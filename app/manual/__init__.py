"""The documentation as web pages: the files of docs/, and pages generated from errors and settings."""
