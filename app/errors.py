"""Every error that PixTools raises on purpose, as one tree.

PixToolsError
├── InvalidRequest                400  the request itself is malformed
│   ├── TruncatedRequest          400  the body ended early
│   ├── ClientLeft                400  the client has gone
│   ├── RequestTimedOut           408  the body came to a halt
│   ├── InvalidIdempotencyKey     400
│   ├── InvalidJson               400  the body is not JSON
│   ├── UnsupportedMediaType      415  the body is of another type
│   ├── InvalidCursor             400
│   ├── KeyInQuery                400  logs would keep the key
│   └── HostRefused               421  this server does not answer to this `Host`
├── Unauthorized                  401
│   ├── MissingKey                401  this request needs an API key
│   └── KeyRefused                401
│       ├── MalformedKey          401
│       ├── MistypedKey           401  its checksum does not fit
│       ├── UnknownKey            401
│       ├── ExpiredKey            401
│       └── RevokedKey            401
├── MissingScope                  403  the key may not do this
├── TemplatesOnly                 403  the tenant may not send trees of its own
├── InvalidTenantName             422
├── InvalidOperations             422  the operation tree; `pointer` names the place
├── InvalidParameter              422  a parameter or a member of the body
│   ├── InvalidTags               422
│   ├── InvalidExternalId         422
│   ├── KeepTooLong               422  longer than the tenant may ask for
│   ├── UnknownTemplate           422  named by a request for a job
│   ├── InvalidTemplate           422  sent to be stored
│   └── UnknownParameter          422
├── InvalidForm                   422  the parts of the form
│   ├── MissingPart               422
│   └── UnknownPart               422
├── InvalidSource                 422  the source of the input
│   └── InvalidSourceUrl          422
│       └── SourceUrlRefused      422  an address from which fetches are forbidden
├── InvalidOutput                 422  the place for copies of results
├── InvalidStore                  422  a connection to a bucket
│   ├── StoreEndpointRefused      422  the operator has not allowed it
│   └── StoreRefused              422  it does not answer
├── InvalidUpload                 422  the file
│   ├── EmptyFile                 422
│   ├── UnsupportedImage          415
│   ├── TruncatedImage            422
│   ├── KnownPoison               422
│   ├── InvalidFilename           422
│   └── UnsupportedAsset          415  sent to be stored
├── LimitExceeded                 422  a setting's limit; `limit` and `value` say which
│   ├── UploadTooLarge            413
│   ├── BodyTooLarge              413
│   ├── TargetTooLong             414
│   ├── HeadTooLarge              431
│   ├── TooManyEndpoints          422
│   ├── TooManyKeys               422
│   ├── TooManyTemplates          422
│   ├── TooManyAssets             422
│   ├── TooManyStores             422
│   └── FieldTooLong              413
├── TenantLimit                   429  a limit of the tenant
│   ├── RateLimited               429  retryable
│   ├── TooManyOpenJobs           429  retryable
│   ├── TooManyListeners          429  retryable
│   ├── DailyLimitReached         429  retryable
│   └── StorageLimitReached       403
├── InvalidLimit                  422  of a tenant
├── IdempotencyKeyReused          422
├── IdempotencyKeyInFlight        409  retryable
├── InvalidWebhookUrl             422
│   └── WebhookUrlRefused         422  an address to which events are forbidden
├── NotFound                      404
│   ├── JobNotFound               404
│   ├── ResultNotFound            404
│   ├── EndpointNotFound          404
│   ├── DeliveryNotFound          404
│   ├── KeyNotFound               404
│   ├── TemplateNotFound          404
│   ├── AssetNotFound             404
│   ├── StoreNotFound             404
│   ├── LetterNotFound            404
│   └── TenantNotFound            404
├── JobExpired                    410  `expired_at` says when it was removed
├── Conflict                      409
│   ├── ExternalIdTaken           409  another job has it; `job_id` names that one
│   ├── BuiltInTemplate           409  it cannot be changed
│   ├── AssetInUse                409  by jobs that have not ended
│   ├── JobAlreadyFinished        409
│   ├── NothingToRetry            409
│   ├── EndpointDisabled          409
│   ├── TenantExists              409
│   ├── TenantStays               409
│   └── JobNotFinished            409
├── InvalidDownloadLink           403
├── ForeignOrigin                 403  sent by a page of another origin
├── OwnWebhook                    403  a webhook that PixTools itself sent
├── RangeNotSatisfiable           416
├── CannotStart                   500  raised at the start of a process, for its operator
│   ├── NotInstalled              500  an optional part of the package
│   └── InvalidWeights            500  the file of a network
├── UnreadableSecret              500  in the database
├── StepFailed                    -    raised by workers, stored in the step
│   ├── CorruptImage              -
│   ├── ImageTooLarge             -
│   ├── ImageNotEncoded           -
│   ├── AreaOutsideImage          -
│   ├── TargetUnreachable         -
│   ├── AssetMissing              -
│   ├── CorruptFont               -
│   ├── InvisibleText             -
│   ├── GlyphMissing              -
│   ├── StepTimedOut              -
│   ├── PoisonInput               -
│   ├── PixelProcessDied          -    retryable
│   ├── WorkspaceFailed           -    retryable
│   │   └── WorkspaceFull         -    retryable, waits
│   ├── SourceFailed              -    the input could not be fetched
│   │   ├── SourceNotFound        -
│   │   ├── SourceDenied          -
│   │   ├── SourceUnusable        -
│   │   ├── SourceChanged         -    since it was fetched before
│   │   ├── SourceUnavailable     -    retryable
│   │   └── SourceBusy            -    retryable, waits
│   ├── OutputFailed              -    a result could not be written to its store
│   │   ├── OutputExists          -
│   │   ├── OutputDenied          -
│   │   └── OutputUnavailable     -    retryable
│   ├── ObjectIncomplete          -    retryable
│   ├── ObjectNotFound            -
│   └── UnexpectedFailure         -    retryable
└── Unavailable                   503  retryable
    ├── TooMuchWork               503
    ├── NoRoom                    503
    ├── TooManyConnections        503
    ├── Stopping                  503
    ├── StoreUnavailable          503  waits
    └── DatabaseUnavailable       503

An error that `waits` does not use up an attempt of a step: it passes when a disk, a storage or a host is free again.

The docstring is the default message. `message` is always safe to show to a client: it never holds the text of a
foreign exception, a secret or a path of the server.
"""

from collections.abc import Iterator
from typing import Any, ClassVar


class PixToolsError(Exception):
    """Something went wrong."""

    #: error code of the class; an instance may have a more precise one
    code: str = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    #: True: a step with this error is postponed until the condition has passed, without a limit of attempts
    waits: ClassVar[bool] = False
    #: True: the service's fault; any other upload would have failed as well
    is_service_fault: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        pointer: str | None = None,
        limit: int | float | None = None,
        value: Any = None,
        retry_after: int | None = None,
        extra: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Describe one failure.

        Args:
            message: what happened, for the client; default: the class docstring.
            pointer: JSON pointer as URI fragment to the offending input, e.g. `#/operations/0/width`.
            limit: the limit that was exceeded.
            value: the value that was refused.
            retry_after: seconds after which the same request may succeed.
            extra: further members of the problem document.
            headers: further headers of the response.
        """
        self.message = message or (type(self).__doc__ or "").strip()
        self.pointer = pointer
        self.limit = limit
        self.value = value
        self.retry_after = retry_after
        self.extra = extra or {}
        self.headers = headers or {}
        super().__init__(self.message)

    def as_record(self) -> dict[str, Any]:
        """The error of a job or step, as stored and shown."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


def kinds(kind: type[PixToolsError] = PixToolsError) -> Iterator[type[PixToolsError]]:
    """All classes of the tree."""
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


class InvalidRequest(PixToolsError):
    """The request is malformed."""

    code = "invalid_request"
    status = 400


class TruncatedRequest(InvalidRequest):
    """The request body ended before the multipart form was complete."""

    code = "truncated_request"


class ClientLeft(InvalidRequest):
    """The client disconnected before the response."""

    code = "client_left"
    status = 400  # only for the log: the client has disconnected


class RequestTimedOut(InvalidRequest):
    """The client sent nothing for too long."""

    code = "request_timeout"
    status = 408


class InvalidIdempotencyKey(InvalidRequest):
    """The Idempotency-Key header must be 1 to 255 printable ASCII characters, quoted or bare."""

    code = "invalid_idempotency_key"


class InvalidJson(InvalidRequest):
    """The body is not valid JSON."""

    code = "invalid_json"


class UnsupportedMediaType(InvalidRequest):
    """The media type of the request body is not supported here."""

    code = "unsupported_media_type"
    status = 415


class InvalidCursor(InvalidRequest):
    """The cursor is not one that this service issued for this listing."""

    code = "invalid_cursor"


class HostRefused(InvalidRequest):
    """This server does not answer to this host; PIXTOOLS_ALLOWED_HOSTS lists the hosts that it answers to."""

    code = "host_refused"
    status = 421


class KeyInQuery(InvalidRequest):
    """A key must not be in a URL, because logs keep URLs: send `Authorization: Bearer …`, and replace this key."""

    code = "key_in_query"


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="PixTools"'}


class Unauthorized(PixToolsError):
    """The request does not identify its sender."""

    code = "unauthorized"
    status = 401

    def __init__(self, message: str | None = None, *, key_id: str | None = None, tenant: str | None = None) -> None:
        """Refuse a key, or a request without one.

        Args:
            message: what is wrong and what to do, for the client; default: the class docstring.
            key_id: id of the key, if it is known.
            tenant: tenant of the key.
        """
        super().__init__(message, headers=CHALLENGE)
        self.key_id = key_id
        self.tenant = tenant


class MissingKey(Unauthorized):
    """This needs an API key: send `Authorization: Bearer pxt_…`. `pixtools keys create` makes the first one."""

    code = "missing_key"


class KeyRefused(Unauthorized):
    """The API key is not valid."""

    code = "key_refused"


class MalformedKey(KeyRefused):
    """This is not an API key: keys begin with `pxt_` and have two parts, of 12 and 49 characters."""

    code = "malformed_key"


class MistypedKey(KeyRefused):
    """The API key looks mistyped or cut off: its checksum does not fit."""

    code = "mistyped_key"


class UnknownKey(KeyRefused):
    """There is no such API key; it may belong to another server, or its tenant is gone."""

    code = "unknown_key"


class ExpiredKey(KeyRefused):
    """The API key has expired; make a new one with `pixtools keys create` or, using another key, POST /keys."""

    code = "expired_key"


class RevokedKey(KeyRefused):
    """The API key was revoked; make a new one with `pixtools keys create` or, using another key, POST /keys."""

    code = "revoked_key"


class MissingScope(PixToolsError):
    """The API key may not do this."""

    code = "missing_scope"
    status = 403

    def __init__(
        self,
        message: str | None = None,
        *,
        value: str | None = None,
        key_id: str | None = None,
        tenant: str | None = None,
    ) -> None:
        """Refuse a request of a known key.

        Args:
            message: names the scope; default: the class docstring.
            value: the scope that is missing.
            key_id: id of the key.
            tenant: tenant of the key.
        """
        super().__init__(message, value=value)
        self.key_id = key_id
        self.tenant = tenant


class TemplatesOnly(PixToolsError):
    """Your tenant may only run templates: send `template` instead of a tree; GET /templates lists the templates."""

    code = "templates_only"
    status = 403


class InvalidTenantName(PixToolsError):
    """A tenant's name is 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends."""

    code = "invalid_tenant_name"
    status = 422


class InvalidOperations(PixToolsError):
    """The operation tree is invalid."""

    code = "invalid_operations"
    status = 422

    def __init__(self, errors: list[dict[str, Any]], *, code: str | None = None) -> None:
        """Report all mistakes in a tree.

        Args:
            errors: one entry per mistake, each with `detail`, `pointer` and other members that help (`limit`, `value`).
            code: a more precise stable code, e.g. `unknown_operation`.
        """
        super().__init__(errors[0]["detail"], extra={"errors": errors})
        self.code = code or self.code


class InvalidParameter(PixToolsError):
    """A parameter of the request is invalid."""

    code = "invalid_parameter"
    status = 422


class InvalidTags(InvalidParameter):
    """Tags are a JSON object of at most 16 names with texts."""

    code = "invalid_tags"


class InvalidExternalId(InvalidParameter):
    """An external id is 1 to 255 characters, none of them a control character."""

    code = "invalid_external_id"


class KeepTooLong(InvalidParameter):
    """A job cannot be kept for this long."""

    code = "keep_too_long"


class UnknownTemplate(InvalidParameter):
    """There is no such template; GET /templates lists the templates."""

    code = "unknown_template"


class InvalidTemplate(InvalidParameter):
    """The template cannot be used."""

    code = "invalid_template"


class UnknownParameter(InvalidParameter):
    """There is no such query parameter, or it is given twice."""

    code = "unknown_parameter"


class InvalidForm(PixToolsError):
    """The form is malformed."""

    code = "invalid_form"
    status = 422


class MissingPart(InvalidForm):
    """A part of the form is missing."""

    code = "missing_field"


class UnknownPart(InvalidForm):
    """The form has an unknown part, or a part twice."""

    code = "unknown_field"


class InvalidSource(PixToolsError):
    """The input does not name a file in a known form."""

    code = "invalid_source"
    status = 422


class InvalidSourceUrl(InvalidSource):
    """The URL of the input must be an absolute http or https URL without credentials, or a data: URL."""

    code = "invalid_source_url"


class SourceUrlRefused(InvalidSourceUrl):
    """The URL of the input leads to an address not allowed here; see PIXTOOLS_FETCH_ALLOWED_NETWORKS."""

    code = "source_url_refused"


class InvalidOutput(PixToolsError):
    """`output` does not name a valid place for the results."""

    code = "invalid_output"
    status = 422


class InvalidStore(PixToolsError):
    """The connection to a bucket, or to a folder, is invalid."""

    code = "invalid_store"
    status = 422


class StoreEndpointRefused(InvalidStore):
    """This server does not connect to this endpoint; the operator allows more by PIXTOOLS_STORE_ENDPOINTS."""

    code = "store_endpoint_refused"


class StoreRefused(InvalidStore):
    """The bucket cannot be reached with this connection."""

    code = "store_refused"


class InvalidUpload(PixToolsError):
    """The uploaded file cannot be accepted."""

    code = "invalid_upload"
    status = 422


class EmptyFile(InvalidUpload):
    """The uploaded file is empty."""

    code = "empty_file"


class UnsupportedImage(InvalidUpload):
    """The file is not an image in a supported format (JPEG, PNG, WebP, GIF, TIFF, AVIF, HEIC)."""

    code = "unsupported_image"
    status = 415


class TruncatedImage(InvalidUpload):
    """The image file ends before its image data is complete."""

    code = "truncated_image"


class KnownPoison(InvalidUpload):
    """This file has crashed every worker that ran these operations on it."""

    code = "known_poison"


class InvalidFilename(InvalidUpload):
    """The file name cannot be used."""

    code = "invalid_filename"


class UnsupportedAsset(InvalidUpload):
    """The file is neither an image in a supported format nor a font (TrueType, OpenType)."""

    code = "unsupported_asset"
    status = 415


class LimitExceeded(PixToolsError):
    """A limit of this service is exceeded."""

    code = "limit_exceeded"
    status = 422


class UploadTooLarge(LimitExceeded):
    """The upload is larger than this service accepts."""

    code = "upload_too_large"
    status = 413


class BodyTooLarge(LimitExceeded):
    """The body of the request is larger than this service accepts here."""

    code = "body_too_large"
    status = 413


class TargetTooLong(LimitExceeded):
    """The path and query of the request are too long."""

    code = "target_too_long"
    status = 414


class HeadTooLarge(LimitExceeded):
    """The headers or trailers of the request are too large or too many."""

    code = "head_too_large"
    status = 431


class FieldTooLong(LimitExceeded):
    """A field of the form is too long."""

    code = "field_too_long"
    status = 413


class TooManyEndpoints(LimitExceeded):
    """The limit on webhook endpoints is reached."""

    code = "too_many_endpoints"


class TooManyStores(LimitExceeded):
    """Your tenant has reached its limit on stores; delete some."""

    code = "too_many_stores"


class TenantLimit(PixToolsError):
    """A limit of your tenant is reached."""

    code = "tenant_limit"
    status = 429


class RateLimited(TenantLimit):
    """Too many requests came within a minute."""

    code = "rate_limited"
    retryable = True


class TooManyOpenJobs(TenantLimit):
    """Too many jobs of your tenant have not ended."""

    code = "too_many_open_jobs"
    retryable = True


class TooManyListeners(TenantLimit):
    """Too many streams of events are open."""

    code = "too_many_listeners"
    retryable = True


class DailyLimitReached(TenantLimit):
    """Your tenant has reached its limit for one day."""

    code = "daily_limit_reached"
    retryable = True


class StorageLimitReached(TenantLimit):
    """Your tenant has reached its limit on storage."""

    code = "storage_limit_reached"
    status = 403


class InvalidLimit(PixToolsError):
    """A limit of a tenant is a whole number of 1 or more."""

    code = "invalid_limit"
    status = 422


class TooManyKeys(LimitExceeded):
    """The tenant has reached its limit on API keys; revoke some."""

    code = "too_many_keys"


class TooManyTemplates(LimitExceeded):
    """Your tenant has reached its limit on templates, or on versions of one; delete some."""

    code = "too_many_templates"


class TooManyAssets(LimitExceeded):
    """Your tenant has reached its limit on assets; delete some."""

    code = "too_many_assets"


class IdempotencyKeyReused(PixToolsError):
    """This Idempotency-Key was already used with another payload; send a new key."""

    code = "idempotency_key_reused"
    status = 422


class IdempotencyKeyInFlight(PixToolsError):
    """The first request with this Idempotency-Key is still being accepted; repeat the request later."""

    code = "idempotency_key_in_flight"
    status = 409
    retryable = True


class InvalidWebhookUrl(PixToolsError):
    """The webhook URL must be an absolute http or https URL without credentials."""

    code = "invalid_webhook_url"
    status = 422


class WebhookUrlRefused(InvalidWebhookUrl):
    """The webhook URL leads to an address not allowed here; see PIXTOOLS_WEBHOOK_ALLOWED_NETWORKS."""

    code = "webhook_url_refused"


class NotFound(PixToolsError):
    """There is nothing at this path."""

    code = "not_found"
    status = 404


class JobNotFound(NotFound):
    """There is no job with this id."""

    code = "job_not_found"


class ResultNotFound(NotFound):
    """The job has no result with this name."""

    code = "result_not_found"


class EndpointNotFound(NotFound):
    """There is no webhook endpoint with this id."""

    code = "endpoint_not_found"


class DeliveryNotFound(NotFound):
    """There is no webhook delivery with this id."""

    code = "delivery_not_found"


class KeyNotFound(NotFound):
    """There is no API key with this id."""

    code = "key_not_found"


class TemplateNotFound(NotFound):
    """There is no template of this name, or not this version of it."""

    code = "template_not_found"


class AssetNotFound(NotFound):
    """There is no asset of this name."""

    code = "asset_not_found"


class StoreNotFound(NotFound):
    """There is no store of this name."""

    code = "store_not_found"


class LetterNotFound(NotFound):
    """There is no such dead letter."""

    code = "letter_not_found"


class TenantNotFound(NotFound):
    """There is no such tenant."""

    code = "tenant_not_found"


class JobExpired(PixToolsError):
    """The job has expired and was removed with its results."""

    code = "job_expired"
    status = 410


class Conflict(PixToolsError):
    """The job's state does not allow this."""

    code = "conflict"
    status = 409


class ExternalIdTaken(Conflict):
    """Another job of yours has this `external_id`; it is free again when that job is gone."""

    code = "external_id_taken"


class BuiltInTemplate(Conflict):
    """This template comes with PixTools and cannot be changed; choose another name."""

    code = "built_in_template"


class AssetInUse(Conflict):
    """Jobs that have not ended use this asset."""

    code = "asset_in_use"


class JobAlreadyFinished(Conflict):
    """The job has already ended."""

    code = "job_already_finished"


class NothingToRetry(Conflict):
    """The job has no failed, skipped or cancelled step to repeat."""

    code = "nothing_to_retry"


class EndpointDisabled(Conflict):
    """The webhook endpoint is disabled."""

    code = "endpoint_disabled"


class TenantExists(Conflict):
    """A tenant of this name already exists."""

    code = "tenant_exists"


class TenantStays(Conflict):
    """The tenant `default` cannot be erased: requests without a key belong to it. Delete its jobs instead."""

    code = "tenant_stays"


class JobNotFinished(Conflict):
    """The job has not ended yet."""

    code = "job_not_finished"


class InvalidDownloadLink(PixToolsError):
    """The download link is invalid or has expired; fetch the job again for a fresh one."""

    code = "invalid_download_link"
    status = 403


class ForeignOrigin(PixToolsError):
    """A page of another origin sent this request; browsers may change data here only from PixTools' own pages."""

    code = "foreign_origin"
    status = 403


class OwnWebhook(PixToolsError):
    """This request is a webhook that PixTools itself sent; it is refused, because it would cause a loop."""

    code = "own_webhook"
    status = 403


class RangeNotSatisfiable(PixToolsError):
    """The requested range begins after the end of the file."""

    code = "range_not_satisfiable"
    status = 416


class CannotStart(PixToolsError):
    """This process cannot start."""

    code = "cannot_start"


class NotInstalled(CannotStart):
    """A library that this process needs is not installed."""

    code = "not_installed"


class InvalidWeights(CannotStart):
    """The file of weights does not fit the network."""

    code = "invalid_weights"


class UnreadableSecret(PixToolsError):
    """A secret in the database was encrypted with a key that PIXTOOLS_SECRET_KEY does not name."""

    code = "unreadable_secret"


class StepFailed(PixToolsError):
    """The operation failed."""

    code = "step_failed"


class CorruptImage(StepFailed):
    """The image data is corrupt and cannot be decoded."""

    code = "corrupt_image"


class ImageTooLarge(StepFailed):
    """The image is larger than this service processes."""

    code = "image_too_large"


class ImageNotEncoded(StepFailed):
    """The encoder cannot write this image; try another format or other parameters."""

    code = "image_not_encoded"


class AreaOutsideImage(StepFailed):
    """The area does not lie within the image."""

    code = "area_outside_image"


class TargetUnreachable(StepFailed):
    """No quality meets the target that was set for the file."""

    code = "target_unreachable"


class AssetMissing(StepFailed):
    """A stored file that the operation names no longer exists."""

    code = "asset_missing"


class CorruptFont(StepFailed):
    """The stored font that the text was to be set in is damaged; this text cannot be drawn with it."""

    code = "corrupt_font"


class InvisibleText(StepFailed):
    """The text of the watermark has no visible characters."""

    code = "invisible_text"


class GlyphMissing(StepFailed):
    """No font of this server has a character of the text."""

    code = "glyph_missing"


class StepTimedOut(StepFailed):
    """The operation took too long."""

    code = "step_timed_out"
    is_service_fault = True


class PoisonInput(StepFailed):
    """Every worker that tried this operation on this image died."""

    code = "poison_input"
    is_service_fault = True


class PixelProcessDied(StepFailed):
    """The process that worked on the image died."""

    code = "pixel_process_died"
    is_service_fault = True
    retryable = True


class WorkspaceFailed(StepFailed):
    """The worker ran out of disk space or memory, or lost a temporary file."""

    code = "workspace_failed"
    is_service_fault = True
    retryable = True


class WorkspaceFull(WorkspaceFailed):
    """The worker's disk is full; the operation waits until there is room."""

    code = "workspace_full"
    is_service_fault = True
    waits = True


class SourceFailed(StepFailed):
    """The input could not be fetched."""

    code = "source_failed"


class SourceNotFound(SourceFailed):
    """There is no file at the source of the input."""

    code = "source_not_found"


class SourceDenied(SourceFailed):
    """The server that has the input denies access to it; check the headers or credentials that you have set."""

    code = "source_denied"


class SourceUnusable(SourceFailed):
    """The server that has the input does not answer with a file that can be used."""

    code = "source_unusable"


class SourceChanged(SourceFailed):
    """The input differs from the file that this job's results were made of; send a new job."""

    code = "source_changed"


class SourceUnavailable(SourceFailed):
    """The server that has the input does not answer, or answers with an error that may pass."""

    code = "source_unavailable"
    retryable = True


class SourceBusy(SourceFailed):
    """Many inputs are being fetched from this host already; this one waits for its turn."""

    code = "source_busy"
    retryable = True
    waits = True


class OutputFailed(StepFailed):
    """The result could not be written to its store."""

    code = "output_failed"


class OutputExists(OutputFailed):
    """The store already has an object with the key of the result."""

    code = "output_exists"


class OutputDenied(OutputFailed):
    """The store of the output refuses its credentials, or does not let them write the object."""

    code = "output_denied"


class OutputUnavailable(OutputFailed):
    """The store of the output does not answer, or answers with an error that may pass."""

    code = "output_unavailable"
    retryable = True


class ObjectIncomplete(StepFailed):
    """The object storage returned incomplete or changed data."""

    code = "object_incomplete"
    is_service_fault = True
    retryable = True


class ObjectNotFound(StepFailed):
    """A stored object is missing."""

    code = "object_not_found"
    is_service_fault = True


class UnexpectedFailure(StepFailed):
    """Internal error; the server log has the details."""

    code = "internal_error"
    is_service_fault = True
    retryable = True


class Unavailable(PixToolsError):
    """A part of the service is unavailable at the moment."""

    code = "unavailable"
    is_service_fault = True
    status = 503
    retryable = True


class TooMuchWork(Unavailable):
    """The server has too much unfinished work."""

    code = "too_much_work"


class TooManyConnections(Unavailable):
    """The server has too many connections."""

    code = "too_many_connections"


class Stopping(Unavailable):
    """The server is stopping; repeat the request."""

    code = "stopping"


class NoRoom(Unavailable):
    """The server has no room for uploads at the moment."""

    code = "no_room"


class StoreUnavailable(Unavailable):
    """The object storage is unavailable at the moment."""

    code = "storage_unavailable"
    waits = True


class DatabaseUnavailable(Unavailable):
    """The database is unavailable at the moment."""

    code = "database_unavailable"


def codes_of(*kinds: type[PixToolsError]) -> set[str]:
    """The codes of these classes and of all their subclasses."""
    below = (codes_of(*kind.__subclasses__()) for kind in kinds)
    return {kind.code for kind in kinds}.union(*below)
