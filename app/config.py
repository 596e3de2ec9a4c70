"""Settings: every choice of a deployment, read from the environment (`PIXTOOLS_` prefix) or a `.env` file."""

import os
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MODELS = Path(__file__).parent.parent / "models"
WEIGHTS = MODELS / "dncnn_color_blind.pth"
FAST_WEIGHTS = MODELS / "unet_fast.pth"
CAMERA_WEIGHTS = MODELS / "unet_camera.pth"
MEGABYTE = 1_000_000  # bytes; as in "50 MB", not a mebibyte


LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
LOOPBACK: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def _listed(value: object) -> object:
    """Split a comma-separated text into a list; `none` is an empty list."""
    if not isinstance(value, str):
        return value
    return [] if value.strip().lower() == "none" else [part.strip() for part in value.split(",") if part.strip()]


LISTED = BeforeValidator(_listed)
DELIVERY_JITTER = 0.2  # random share of a pause, up or down: deliveries that failed together are not retried together
DELIVERY_MARGIN = 86_400.0  # seconds beyond its pauses that a delivery may wait for a host


def delivery_seconds(pauses: Sequence[float]) -> float:
    """The longest time in seconds from the first attempt at a webhook until it is given up, all waiting included."""
    return sum(pauses) * (1 + DELIVERY_JITTER) + DELIVERY_MARGIN


def installing(requirements: str) -> str:
    """The command that installs a file of requirements into the environment of this process."""
    return f"scripts/pip-install {sys.prefix} --require-hashes -r {requirements}"


def _check_extra(extra: str, module: str) -> None:
    if find_spec(module) is None:
        command = installing("requirements-api.txt")
        raise ValueError(f"needs the extra `{extra}`, and {module} is not installed: {command}")


def _without_slash(url: str) -> str:
    return url.rstrip("/")


class Settings(BaseSettings):
    """All settings. The defaults give the embedded mode: one process, and no other server to install."""

    model_config = SettingsConfigDict(env_prefix="PIXTOOLS_", env_file=".env", env_ignore_empty=True, extra="ignore")

    # Where it listens and keeps its files
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    public_url: Annotated[str, AfterValidator(_without_slash)] | None = Field(
        None, description="How clients reach the API; default: as the request addressed it."
    )
    allowed_hosts: Annotated[frozenset[Annotated[str, AfterValidator(str.lower)]] | None, NoDecode, LISTED] = Field(
        None,
        description="Hosts, separated by commas, that the API answers to; `*`: any. Default: loopback and the host of "
        "the public URL if it listens on loopback, else any.",
    )
    open_access: bool = Field(
        False,
        description="Whether every client that reaches the API may do everything until the first key is made; "
        "otherwise only clients on this machine may.",
    )
    data_dir: Path = Field(Path("var"), description="SQLite file, objects, spool and key of the embedded mode.")
    spool_dir: Path | None = Field(None, description="Disk space for uploads in flight and for pixel work.")
    min_free_bytes: int = Field(
        100 * MEGABYTE,
        ge=0,
        description="Bytes that must be free on the disks of spool and data folder; with less, uploads are refused "
        "with 503.",
    )

    # What it runs on
    database_url: str | None = Field(None, description="sqlite:///… or postgresql://…")
    broker_url: str = Field("memory://", description="memory:// (the worker runs inside the API) or amqp://…")
    result_backend: str = "cache+memory://"
    redis_url: str | None = Field(
        None, description="Counts and idempotency keys, to be faster; the database stays the source of truth."
    )
    storage_url: Annotated[str, Field(pattern=r"^(file:///|s3://.|gs://.|az://.)")] | None = Field(
        None, description="file:///…, s3://bucket, gs://bucket or az://container"
    )
    s3_endpoint: str | None = Field(None, description="For S3 servers that are not AWS.")
    s3_public_endpoint: str | None = Field(None, description="Where clients reach that server; for download URLs.")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = Field(None, description="Default: the usual AWS credential chain.")
    s3_secret_key: SecretStr | None = None
    gcs_endpoint: str | None = Field(None, description="Of Google Cloud Storage, if it is not the public one.")
    gcs_service_account: Path | None = Field(
        None, description="Key file, which also signs download links. Default: the usual Google credential chain."
    )
    azure_account: str | None = Field(None, description="Of Azure Blob Storage.")
    azure_key: SecretStr | None = Field(None, description="Default: the usual Azure credential chain.")
    azure_endpoint: str | None = Field(None, description="Of the account, for servers that are not Azure's own.")
    azure_public_endpoint: str | None = Field(None, description="Where clients reach it; for download URLs.")
    secret_key: SecretStr | None = Field(
        None,
        description="Signs download links and encrypts secrets in the database; several, separated by commas: the "
        "first one signs and encrypts. Embedded: made at the first start.",
    )

    # Limits on what a client may send
    max_upload_bytes: int = Field(50 * MEGABYTE, ge=1)
    max_asset_bytes: int = Field(10 * MEGABYTE, ge=1, description="Size of an image or font that trees name.")
    max_pixels: int = Field(50_000_000, ge=1, description="Per frame, and in total over all frames.")
    max_side: int = Field(16384, ge=1, le=16384, description="Pixels; AVIF and WebP end near there.")
    max_frames: int = Field(100, ge=1)
    heic: bool = Field(True, description="Whether HEIC is accepted; its codec, HEVC, is patented in some countries.")
    max_nodes: int = Field(32, ge=1, description="Operations in one tree.")
    max_depth: int = Field(8, ge=1, le=32)
    max_open_jobs: int = Field(
        20_000, ge=1, description="While more jobs than this are unfinished, new ones are refused with 503."
    )
    max_operations_bytes: int = Field(64 * 1024, ge=2, description="Length of the operations field.")
    max_json_bytes: int = Field(256 * 1024, ge=1024, description="Length of a body that is not an upload.")
    max_target_bytes: int = Field(8 * 1024, ge=256, description="Path and query of a request.")
    max_head_bytes: int = Field(32 * 1024, ge=1024, description="Request line and headers, and trailers.")
    max_headers: int = Field(100, ge=20, description="Headers of one request.")
    max_connections: int = Field(
        1000, ge=10, description="Connections to one API process; beyond them only /health/live is answered."
    )
    max_waits: int = Field(
        500, ge=0, description="Answers held by `Prefer: wait` in one API process; further requests do not wait."
    )
    max_listeners: int = Field(
        500, ge=0, description="Streams of events held by one API process; further ones are refused with 429."
    )
    tenant_max_listeners: int | None = Field(
        None, ge=0, description="The same of one tenant; default: half of PIXTOOLS_MAX_LISTENERS."
    )

    # Limits of a tenant that has none of its own (`pixtools tenants set`)
    tenant_requests_per_minute: int = Field(60_000, ge=1, le=2**31 - 1)
    tenant_max_open_jobs: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Unfinished jobs; default: half of PIXTOOLS_MAX_OPEN_JOBS."
    )
    tenant_max_bytes_per_day: int = Field(
        10**12, ge=1, le=2**63 - 1, description="Bytes of accepted uploads in a day (UTC)."
    )
    tenant_max_pixels_per_day: int = Field(
        10**13, ge=1, le=2**63 - 1, description="Pixels of accepted uploads in a day, over all frames."
    )
    tenant_max_storage_bytes: int = Field(
        10**12, ge=1, le=2**63 - 1, description="Stored bytes of uploads, results and assets."
    )
    tenant_max_keep_seconds: int = Field(
        30 * 86_400, ge=1, le=2**31 - 1, description="The longest time that a job may ask to be kept (`keep_seconds`)."
    )

    # Times, in seconds
    head_seconds: float = Field(10.0, gt=0, description="Time for the whole head of a request.")
    silence_seconds: float = Field(
        30.0, gt=0, description="Time without a byte after which a request's body, or an unread answer, is given up."
    )
    keep_alive_seconds: float = Field(5.0, gt=0, description="How long a connection is kept for its next request.")
    download_url_seconds: int = Field(3600, ge=1, le=7 * 86400)
    results_kept_seconds: int = Field(
        86400, ge=1, le=2**31 - 1, description="From a job's end until it is removed, unless it has `keep_seconds`."
    )
    tombstones_kept_seconds: int = Field(
        30 * 86_400, ge=1, description="How long the id of an expired job gets a 410 instead of a 404."
    )
    idempotency_seconds: int = Field(86400, ge=1, description="How long a key answers with its stored response.")
    idempotency_wait_seconds: float = Field(5.0, ge=0, description="How long a repeat waits for the first request.")
    listen_seconds: float = Field(
        3600.0, gt=0, description="Time after which a stream of events ends; its client goes on with a new one."
    )
    prefer_wait_seconds: int = Field(60, ge=0, description="Upper bound of `Prefer: wait=N`.")
    step_timeout_seconds: int = Field(300, ge=1, description="One run of operations on one image.")
    denoise_timeout_seconds: int = Field(1800, ge=1, description="One run of the network on one image.")
    step_lease_seconds: int = Field(60, ge=3, description="After this silence a worker counts as dead.")
    drain_seconds: float = Field(
        80.0, ge=0, description="How long a worker that has to stop lets its tasks run; below the grace period."
    )
    redispatch_seconds: int = Field(600, ge=1, description="A job without any activity for so long is sent again.")
    relay_poll_seconds: float = Field(1.0, gt=0, description="Only a fallback; the relay is woken at once.")
    dead_letters_kept_seconds: int = Field(
        30 * 86400, ge=1, description="How long work that was given up can be looked at and sent again."
    )
    audit_kept_seconds: int = Field(400 * 86_400, ge=86_400, description="How far the audit log goes back.")
    usage_seconds: float = Field(60.0, gt=0, description="Pause between additions to the usage of tenants.")
    retention_seconds: float = Field(300.0, gt=0, description="Pause between two searches for expired jobs.")
    reconcile_seconds: float = Field(15.0, gt=0)
    webhook_timeout_seconds: float = Field(15.0, gt=0, description="One attempt, from the name to the last byte.")
    webhook_retry_seconds: Annotated[tuple[Annotated[int, Field(ge=1)], ...], NoDecode, LISTED] = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Pauses after failed attempts; one attempt more than there are pauses.",
    )
    webhook_breaker_seconds: float = Field(60.0, gt=0, description="How long a host that fails is left alone.")
    events_kept_seconds: int = Field(
        7 * 86_400,
        ge=1,
        validate_default=True,
        description="How far the log of events goes back; longer than all attempts take, and a day.",
    )

    # Webhooks
    webhook_ports: Annotated[frozenset[Annotated[int, Field(ge=1, le=65535)]], NoDecode, LISTED] = Field(
        frozenset({80, 443}), description="Ports on public addresses that events may be sent to."
    )
    webhook_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...] | None, NoDecode, LISTED] = Field(
        None,
        description="Private ranges that events may be sent to; default: none, or loopback in embedded mode until "
        "there is an API key.",
    )
    webhook_breaker_failures: int = Field(5, ge=1, description="Failures in a row after which a host is left alone.")
    webhook_concurrency: int = Field(16, ge=1, description="Attempts at the same time in one process.")

    # Inputs that are fetched
    fetch_allowed_ports: Annotated[frozenset[Annotated[int, Field(ge=1, le=65535)]], NoDecode, LISTED] = Field(
        frozenset({80, 443}), description="Ports on public addresses that inputs may be fetched from."
    )
    fetch_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...] | None, NoDecode, LISTED] = Field(
        None,
        description="Private ranges that inputs may be fetched from; default: none, or loopback in embedded mode until "
        "there is an API key.",
    )
    fetch_timeout_seconds: float = Field(
        60.0, gt=0, description="One attempt at fetching an input, from the name to the last byte."
    )
    fetch_max_redirects: int = Field(
        5, ge=0, le=20, description="Redirects of one fetch; each is checked like the URL itself."
    )
    fetch_concurrency: int = Field(16, ge=1, description="Inputs fetched at the same time by one process.")
    store_endpoints: Annotated[frozenset[Annotated[str, AfterValidator(_without_slash)]], NoDecode, LISTED] = Field(
        frozenset(),
        description="URLs of object stores that tenants may connect to besides those of AWS, Google and Azure; "
        "tenants' signed requests are sent there.",
    )
    file_store_roots: Annotated[tuple[Path, ...], NoDecode, LISTED] = Field(
        (), description="Folders below which `pixtools server stores put` may connect a tenant to one."
    )

    # Work
    input_cache_bytes: int = Field(
        500 * MEGABYTE, ge=0, description="Disk in the spool for uploads that several tasks of a worker need."
    )
    worker_concurrency: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, description="Pixel processes on this machine."
    )
    worker_takes: int = Field(
        2, ge=1, description="Tasks that one pixel worker of a cluster runs at the same time: KEDA's target."
    )
    most_workers: int = Field(
        20,
        ge=1,
        description="Workers of one kind that the broker's window has work for; more work waits in the database.",
    )
    reference_decode_seconds: float = Field(
        0.0107,
        gt=0,
        description="CPU time of the reference decode on the workers, for POST /plan (`make bench NAME=plan`).",
    )
    step_max_attempts: int = Field(
        5, ge=1, description="Attempts after which a step that kills its worker is given up."
    )
    pixel_process_memory_bytes: int | None = Field(
        2_100_000_000, ge=300_000_000, description="Address space of one pixel process."
    )
    denoise_weights: Path = Field(WEIGHTS, description="A DnCNN checkpoint in the layout of the authors' release.")
    denoise_fast_weights: Path = Field(FAST_WEIGHTS, description="A residual U-Net, for the profile `fast`.")
    denoise_camera_weights: Path = Field(CAMERA_WEIGHTS, description="The same network, for the profile `camera`.")
    denoise_memory_bytes: int = Field(
        256 * MEGABYTE, ge=50 * MEGABYTE, description="Working memory of the network, in addition to the image itself."
    )
    denoise_threads: int = Field(0, ge=0, description="0: one for each core.")
    denoise_int8: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether a network that has a quantized form runs as that; `auto` tries whether it is faster here.",
    )

    # Observability
    log_level: str = "INFO"
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port without keys, where workers and `pixtools relay` serve /metrics, and the API /metrics and "
        "/health.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(_without_slash)] | None = Field(
        None, description="Collector of OpenTelemetry traces, OTLP over HTTP; without it there are none."
    )

    @field_validator("database_url")
    @classmethod
    def _has_driver(cls, url: str | None) -> str | None:
        if url and not url.startswith("sqlite"):
            _check_extra("cluster", "psycopg")
        return url

    @field_validator("otlp_endpoint")
    @classmethod
    def _has_exporter(cls, endpoint: str | None) -> str | None:
        if endpoint:
            _check_extra("tracing", "opentelemetry.exporter")
        return endpoint

    @field_validator("events_kept_seconds")
    @classmethod
    def _outlast_attempts(cls, kept: int, others: ValidationInfo) -> int:
        """Check that events stay in the log for as long as a delivery may take, so that a replay finds them."""
        needed = delivery_seconds(others.data.get("webhook_retry_seconds", ()))
        if kept < needed:
            raise ValueError(f"must be at least {needed:.0f}, since a delivery may take that long")
        return kept

    @field_validator("file_store_roots")
    @classmethod
    def _hold_nothing_of_the_server(cls, roots: tuple[Path, ...], others: ValidationInfo) -> tuple[Path, ...]:
        """Check that tenants cannot read the server's own files there: the database, keys and uploads of others."""
        storage = urlsplit(others.data.get("storage_url") or "")
        folders = [others.data.get("data_dir"), others.data.get("spool_dir")]
        folders.append(Path(unquote(storage.path)) if storage.scheme == "file" else None)
        for root in roots:
            if not root.is_absolute() or ".." in root.parts:
                raise ValueError(f"must be an absolute path without `..`: {root}")
            for own in (folder.resolve() for folder in folders if folder is not None):
                if own.is_relative_to(root.resolve()) or root.resolve().is_relative_to(own):
                    raise ValueError(f"{root} must not contain the server's own files, or lie in them: {own}")
        return roots

    @property
    def embedded(self) -> bool:
        """True if the workers run inside the API's process."""
        return self.broker_url.startswith("memory:")

    @cached_property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'pixtools.db'}"

    @cached_property
    def storage(self) -> str:
        return self.storage_url or (self.data_dir.absolute() / "objects").as_uri()

    @cached_property
    def spool(self) -> Path:
        return self.spool_dir or self.data_dir / "spool"

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The private ranges that events may be sent to, as long as there has never been an API key."""
        if self.webhook_allowed_networks is not None:
            return self.webhook_allowed_networks
        # Any client that submits jobs can post there and read the answer; on this machine it can do so anyway
        return LOOPBACK if self.embedded and self.host in LOOPBACK_HOSTS else ()

    @property
    def fetch_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The private ranges that inputs may be fetched from, as long as there has never been an API key."""
        if self.fetch_allowed_networks is not None:
            return self.fetch_allowed_networks
        return LOOPBACK if self.embedded and self.host in LOOPBACK_HOSTS else ()

    @cached_property
    def hosts(self) -> frozenset[str] | None:
        """The hosts that the API answers to, without ports and brackets; None: all."""
        if self.allowed_hosts is not None:
            return None if "*" in self.allowed_hosts else frozenset(host.strip("[]") for host in self.allowed_hosts)
        if self.host not in LOOPBACK_HOSTS:
            return None
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return frozenset(LOOPBACK_HOSTS | ({public} if public else set()))

    @property
    def open_jobs_of_tenant(self) -> int:
        """The most unfinished jobs of a tenant; by default half of all, which leaves room for other tenants."""
        return self.tenant_max_open_jobs or max(1, self.max_open_jobs // 2)

    @property
    def listeners_of_tenant(self) -> int:
        """The most open event streams of a tenant; by default half of all, which leaves room for other tenants."""
        return self.max_listeners // 2 if self.tenant_max_listeners is None else self.tenant_max_listeners

    @property
    def weights_by_profile(self) -> dict[str, Path]:
        """The files of weights by profile of `denoise`."""
        return {
            "exact": self.denoise_weights,
            "fast": self.denoise_fast_weights,
            "camera": self.denoise_camera_weights,
        }

    @property
    def own_port(self) -> int | None:
        """The loopback port of this server, for clients on the same machine; None: it does not listen on loopback."""
        return self.port if self.embedded or self.host in LOOPBACK_HOSTS else None

    @property
    def base_url(self) -> str:
        """The base of absolute URLs that are made without a request."""
        return self.public_url or f"http://{self.host}:{self.port}"


class CurrentSettings:
    """The settings of this process, for code that cannot get them as an argument: Celery reads them on first use."""

    def __init__(self) -> None:
        self._settings: Settings | None = None

    def __call__(self) -> Settings:
        """Return the settings passed to `use`; without any, read them from the environment once."""
        if self._settings is None:
            self._settings = Settings()
        return self._settings

    def use(self, settings: Settings) -> None:
        """Set the settings that are returned from now on."""
        self._settings = settings


current = CurrentSettings()
