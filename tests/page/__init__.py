"""The pages in a real browser. All files share one server and one Chromium, in one process of `pytest -n`."""
