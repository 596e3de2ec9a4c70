"""The parts of the operation `web` without an encoder: widths and names, markup, placeholders."""
