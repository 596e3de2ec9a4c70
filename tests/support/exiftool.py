"""Metadata as read by ExifTool, which knows more kinds than any library."""

import json
import subprocess
from pathlib import Path
from typing import Any


def exiftool(*paths: Path) -> list[dict[str, Any]]:
    command = ["exiftool", "-json", "-G1", "-a", "-n", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    read: list[dict[str, Any]] = json.loads(done.stdout)
    return read
