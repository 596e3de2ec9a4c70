"""Keeps the last webhook that it gets, with the headers that sign it, as JSON in /tmp/webhook."""

import base64
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

KEPT = Path("/tmp/webhook")


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = {name: self.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")}
        partial = KEPT.with_suffix(".new")
        partial.write_text(json.dumps({**signed, "body": base64.b64encode(body).decode()}))
        partial.rename(KEPT)
        self.send_response(204)
        self.end_headers()


HTTPServer(("", 8080), Hook).serve_forever()
