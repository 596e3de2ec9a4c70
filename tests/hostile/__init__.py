"""Requests and files that nobody sends in good faith, made by seed: none may cost a 5xx or a process."""
