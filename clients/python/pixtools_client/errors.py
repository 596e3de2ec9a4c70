"""All errors as one tree:

ClientError
├── Refused                 the server answered 4xx, or the request cannot be sent at all
│   ├── BadRequest          400
│   ├── Unauthorized        401: no key, or one that is not valid
│   ├── Forbidden           403
│   ├── NotFound            404, 410
│   │   ├── JobNotFound     `job_not_found`
│   │   │   └── JobExpired  `job_expired`
│   │   ├── ResultNotFound  `result_not_found`
│   │   ├── TemplateNotFound `template_not_found`
│   │   ├── StoreNotFound   `store_not_found`
│   │   └── AssetNotFound   `asset_not_found`
│   ├── Conflict            409: the state does not allow it
│   │   └── ExternalIdTaken `external_id_taken`
│   ├── TooLarge            413
│   ├── UnsupportedImage    415
│   ├── Invalid             422: `errors` says where
│   └── LimitReached        429: `limit_name` of `problem` says which limit
├── ServerAway              no answer, or 5xx: the same request may succeed later
├── JobFailed               the job has ended without all of its results
├── WaitTimeout             the job has not ended in time; it continues
├── DownloadFailed          a result could not be fetched or written
│   └── FileExists          a file with this name exists
└── InvalidSignature        a webhook was not signed with the secret

Decide by `code`, which is stable; the text is for people.
"""

from typing import Any


class ClientError(Exception):
    """A request failed; the text is for people, and is the server's own message if there is one."""

    #: code of the problem document, or of this kind of error
    code = "client_error"
    #: the problem document (RFC 9457), if the server sent one
    problem: dict[str, Any]

    def __init__(self, message: str, *, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}
        self.code = self.problem.get("code", type(self).code)

    @property
    def detail(self) -> str:
        """What is wrong, without the code and without where it is."""
        return str(self.problem.get("detail") or self)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The mistakes in a request, each with a `detail` and a JSON `pointer`."""
        return list(self.problem.get("errors", ()))


class Refused(ClientError):
    """The server refuses the request, or it cannot be sent."""

    code = "refused"

    def __init__(self, message: str, *, status: int | None = None, problem: dict[str, Any] | None = None) -> None:
        """Describe one refusal.

        Args:
            message: text for people.
            status: HTTP status; None: the request was not sent.
            problem: the problem document (RFC 9457).
        """
        super().__init__(message, problem=problem)
        self.status = status


class BadRequest(Refused):
    """The request is malformed."""


class Unauthorized(Refused):
    """The request needs a key, or has one that is not valid."""


class Forbidden(Refused):
    """The key may not do this."""


class NotFound(Refused):
    """The object does not exist, or belongs to another tenant."""


class JobNotFound(NotFound):
    """There is no such job; it may have expired."""


class JobExpired(JobNotFound):
    """The job has expired; `expired_at` of `problem` says when."""


class ResultNotFound(NotFound):
    """The job has no such result."""


class TemplateNotFound(NotFound):
    """There is no such template, or not this version of it."""


class StoreNotFound(NotFound):
    """There is no such store."""


class AssetNotFound(NotFound):
    """There is no such image or font."""


class Conflict(Refused):
    """The state of the object does not allow this."""


class ExternalIdTaken(Conflict):
    """Another job has this external id."""

    @property
    def job_id(self) -> str | None:
        """The id of the other job."""
        found: str | None = self.problem.get("job_id")
        return found


class TooLarge(Refused):
    """The body is larger than the limit."""


class UnsupportedImage(Refused):
    """The file is not an image in a supported format."""


class Invalid(Refused):
    """The input is invalid."""


class LimitReached(Refused):
    """A limit of the tenant is reached, and retries did not help within the client's patience."""


class ServerAway(ClientError):
    """The server does not answer, or cannot at the moment; the same request may succeed later."""

    code = "server_away"


class JobFailed(ClientError):
    """A job ended without all of its results."""

    code = "job_failed"

    def __init__(self, job: Any) -> None:
        """Describe a job that ended without all of its results."""
        self.job = job
        failed = [step["error"] for step in job["steps"] if step["error"]]
        self.error = job["error"] or (failed[0] if failed else None)
        reason = f": {self.error['code']}: {self.error['message']}" if self.error else ""
        super().__init__(f"{job['input']['filename']}: job {job['id']} is {job['status']}{reason}")
        self.code = self.error["code"] if self.error else job["status"]


class WaitTimeout(ClientError):
    """The job has not ended in time; it continues."""

    code = "wait_timeout"

    def __init__(self, job: Any) -> None:
        super().__init__(f"job {job['id']} has not ended yet: {job['status']}")
        self.job = job


class DownloadFailed(ClientError):
    """A result could not be fetched or written."""

    code = "download_failed"


class FileExists(DownloadFailed):
    """A file with this name already exists."""

    code = "file_exists"


class InvalidSignature(ClientError):
    """A webhook was not signed with the secret, or is too old."""

    code = "invalid_signature"


#: more precise than the status
BY_CODE: dict[str, type[Refused]] = {
    "job_not_found": JobNotFound,
    "job_expired": JobExpired,
    "result_not_found": ResultNotFound,
    "template_not_found": TemplateNotFound,
    "store_not_found": StoreNotFound,
    "asset_not_found": AssetNotFound,
    "external_id_taken": ExternalIdTaken,
}
BY_STATUS: dict[int, type[Refused]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: TooLarge,
    415: UnsupportedImage,
    422: Invalid,
    429: LimitReached,
}
