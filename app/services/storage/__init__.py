"""What is stored beside the database, its names and its links."""
