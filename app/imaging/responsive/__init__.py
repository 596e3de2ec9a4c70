"""What the operation `web` decides and writes: widths and names, markup, placeholders."""
