"""Losses during decoding, kept in a field of the image until its origin is recorded."""

import json
from typing import Any

import pyvips

FIELD = "pixtools-lost"


def noted(image: pyvips.Image, lost: str, reason: str, **details: Any) -> pyvips.Image:
    """The image with a note about a loss; see `losses` for the reasons."""
    image = image.copy()
    notes = json.dumps({**notes_on(image), lost: {"reason": reason, **details}})
    image.set_type(pyvips.GValue.gstr_type, FIELD, notes)
    return image


def notes_on(image: pyvips.Image) -> dict[str, dict[str, Any]]:
    """The losses noted on an image, by name."""
    notes: dict[str, dict[str, Any]] = json.loads(image.get(FIELD)) if image.get_typeof(FIELD) else {}
    return notes
