"""The format of times in JSON."""

from datetime import datetime


def in_utc(moment: datetime) -> str:
    """A time in UTC by RFC 3339, with `Z`."""
    return moment.isoformat().replace("+00:00", "Z")
