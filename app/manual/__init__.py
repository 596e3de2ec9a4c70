"""The documentation as pages: the files of docs/, and what is generated from errors and settings."""
