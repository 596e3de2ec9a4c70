"""Moments as JSON tells them."""

from datetime import datetime


def in_utc(moment: datetime) -> str:
    """A moment of UTC by RFC 3339, with `Z`."""
    return moment.isoformat().replace("+00:00", "Z")
