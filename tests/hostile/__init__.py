"""Requests and files that are not sent in good faith, made by seed: none may cost a 5xx or a process."""
