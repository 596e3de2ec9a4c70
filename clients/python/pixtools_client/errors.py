"""What can go wrong, in one tree:

ClientError
├── Refused             the server answered 4xx, or the request cannot be sent at all
├── ServerAway          no answer, or 5xx: the same request may succeed later
└── DownloadFailed      a result could not be fetched or written
"""


class ClientError(Exception):
    """A request failed; the text is for people, in the server's own words where it said something."""


class Refused(ClientError):
    """The server does not take the request as it is."""


class ServerAway(ClientError):
    """The server does not answer, or not now; the same request may succeed later."""


class DownloadFailed(ClientError):
    """A result could not be fetched, or not be written to its file."""
