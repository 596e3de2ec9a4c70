"""A client of PixTools' HTTP API: it knows the API and nothing of the server's code."""

from pixtools_client.client import Client
from pixtools_client.errors import ClientError, DownloadFailed, Refused, ServerAway

__all__ = ["Client", "ClientError", "DownloadFailed", "Refused", "ServerAway"]
