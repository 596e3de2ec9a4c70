"""A client of PixTools' HTTP API: it knows the API and nothing of the server's code.

`Client` and `AsyncClient` have the same methods. Neither prints anything or ends the process.
"""

from pixtools_client.async_client import AsyncClient
from pixtools_client.client import Client
from pixtools_client.errors import (
    BadRequest,
    ClientError,
    Conflict,
    DownloadFailed,
    FileExists,
    Forbidden,
    Invalid,
    InvalidSignature,
    JobFailed,
    JobNotFound,
    LimitReached,
    NotFound,
    Refused,
    ResultNotFound,
    ServerAway,
    TooLarge,
    Unauthorized,
    UnsupportedImage,
    WaitTimeout,
)
from pixtools_client.types import Asset, Delivery, Endpoint, Event, Job, Key, Result, Step
from pixtools_client.webhooks import verify

__all__ = [
    "Asset",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "Delivery",
    "DownloadFailed",
    "Endpoint",
    "Event",
    "FileExists",
    "Forbidden",
    "Invalid",
    "InvalidSignature",
    "Job",
    "JobFailed",
    "JobNotFound",
    "Key",
    "LimitReached",
    "NotFound",
    "Refused",
    "Result",
    "ResultNotFound",
    "ServerAway",
    "Step",
    "TooLarge",
    "Unauthorized",
    "UnsupportedImage",
    "WaitTimeout",
    "verify",
]
