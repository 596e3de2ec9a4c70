"""Creates resources from settings: the only place that chooses implementations."""

import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from pydantic import SecretStr

from app.config import Settings, installing
from app.database import Database
from app.errors import CannotStart, InvalidWeights, NotInstalled
from app.imaging.recipe import Limits
from app.keyring import ADVICE, Keyring
from app.ml import dncnn, unet
from app.operations import Queue
from app.services.access.door import Door
from app.services.access.limits import TenantLimits
from app.services.access.rates import MemoryRates, Rates, RedisRates
from app.services.execution.buckets import BucketClient
from app.services.execution.delivering import Deliverer
from app.services.execution.executor import Executor, Renderer
from app.services.execution.fetching import Fetcher
from app.services.execution.input_cache import InputCache
from app.services.execution.sandbox import Sandbox
from app.services.execution.web import FetchLimits, WebClient
from app.services.idempotency import Front, Idempotency, MemoryFront, RedisFront
from app.services.intake.assets import Assets
from app.services.intake.backpressure import Backpressure
from app.services.intake.keeping import MAX_EXTERNAL_ID, MAX_TAGS_BYTES
from app.services.intake.operation_tree import TreeLimits
from app.services.intake.plans import Plans
from app.services.intake.rules import ImageLimits, InputRules
from app.services.intake.submission import Submissions, check_room
from app.services.intake.templates import MAX_REFERENCE
from app.services.intake.uploads import FormLimits
from app.services.live import Live
from app.services.monitoring.checks import Checks
from app.services.monitoring.disk_space import Room
from app.services.monitoring.gauges import Gauges
from app.services.monitoring.probes import Probes
from app.services.outbox import Send
from app.services.s3 import S3Bucket
from app.services.scheduling.dispatcher import Dispatcher, LocalDispatcher
from app.services.scheduling.window import Look, Sizes
from app.services.storage.azure import AzureContainer
from app.services.storage.gcs import GoogleBucket
from app.services.storage.links import ApiLinks, DownloadLinks, PresignedLinks
from app.services.storage.local import LocalFolder
from app.services.storage.object_store import CloudPeer, ObjectStore
from app.services.storage.places import Places
from app.services.upkeep.accounts import Accounts
from app.services.upkeep.reconciler import Reconciler, Waiting
from app.services.upkeep.refusals import Refusals
from app.services.upkeep.retention import Retention
from app.services.waiters import Waiters
from app.services.webhook import WebhookSender
from app.services.webhooks.breakers import Breakers
from app.services.webhooks.egress import MAX_URL, SOURCES, Egress
from app.services.webhooks.host_limits import HostLimits
from app.services.webhooks.resolver import Resolver

NETWORK_ADDRESS_SPACE = 1_000_000_000  # bytes that a network's runtime maps in addition to its working memory
KEY_FILE = "secret.key"
#: by queue: the module that its tasks need, and the requirements file that installs it
LIBRARIES = {
    Queue.DEFAULT: ("pyvips", "requirements-worker.txt"),
    Queue.SMALL: ("pyvips", "requirements-worker.txt"),
    Queue.ML: ("onnxruntime", "requirements.txt"),
}
PAUSE = 0.05  # seconds between two readings of the queues while work waits for its turn
MAX_NUMBER = 32  # bytes of a form field with a number
MAX_OUTPUT = 4096  # bytes of the form field `output`
HOST_SHARE = 4  # one host gets at most 1/4 of the places for webhooks


@dataclass(frozen=True)
class Resources:
    """All resources of one process, each created on first use."""

    settings: Settings
    #: True once running tasks have to be returned to their queue
    must_stop: Callable[[], bool] = lambda: False
    #: embedded mode only, by queue: a function that reports whether the queue's worker runs
    local_workers: dict[Queue, Callable[[], bool]] = field(default_factory=dict)
    #: API only: set when the server has to stop; from then on no request may wait for anything
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.database, keyring=lambda: self.keyring)

    @cached_property
    def keyring(self) -> Keyring:
        """The keys of this deployment, from the settings, or created once and stored with the data.

        Raises:
            CannotStart: there are no keys, or one is too short.
        """
        settings = self.settings
        if settings.secret_key:
            return Keyring.of(settings.secret_key.get_secret_value())
        if not (settings.embedded or self.storage.folder):
            raise CannotStart(f"The processes of a cluster share a secret key. {ADVICE}")
        path = settings.data_dir / KEY_FILE
        if not path.exists():
            _create_secret(path)
        return Keyring.of(path.read_text())

    def check_keyring(self) -> None:
        """Check that this process has keys, if it cannot work without them.

        Raises:
            CannotStart: there are no keys, or one is too short.
        """
        _ = self.keyring

    @cached_property
    def _bucket(self) -> CloudPeer | None:
        open_bucket = BUCKETS.get(urlsplit(self.settings.storage).scheme)
        return open_bucket(self.settings) if open_bucket else None

    @cached_property
    def storage(self) -> ObjectStore:
        return self._bucket or LocalFolder(Path(unquote(urlsplit(self.settings.storage).path)))

    @cached_property
    def places(self) -> Places:
        return Places(roots=self.settings.file_store_roots)

    @cached_property
    def api_links(self) -> ApiLinks:
        """Links to the API's own download route, which serves the files of a local folder."""
        first, *older = self.keyring.signing
        return ApiLinks(first, self.settings.download_url_seconds, tuple(older))

    @cached_property
    def links(self) -> DownloadLinks:
        return PresignedLinks(self._bucket, self.settings.download_url_seconds) if self._bucket else self.api_links

    def presigned(self, key: str) -> str:
        """A presigned link to an object in a bucket, not in a local folder."""
        if self._bucket is None:
            raise ValueError(f"{self.settings.storage} signs no links")
        return self._bucket.presign(key, self.settings.download_url_seconds)

    @cached_property
    def door(self) -> Door:
        return Door(self.database, self.settings.open_access)

    @cached_property
    def front(self) -> Front:
        return RedisFront(self.settings.redis_url) if self.settings.redis_url else MemoryFront()

    @cached_property
    def submissions(self) -> Submissions:
        settings = self.settings
        fields = {
            "operations": settings.max_operations_bytes,
            "template": MAX_REFERENCE,
            "params": settings.max_operations_bytes,
            "webhook_url": 4 * MAX_URL,
            "priority": MAX_NUMBER,
            "tags": 4 * MAX_TAGS_BYTES,
            "external_id": 4 * MAX_EXTERNAL_ID,
            "keep_seconds": MAX_NUMBER,
            "output": MAX_OUTPUT,
        }
        return Submissions(
            database=self.database,
            storage=self.storage,
            links=self.links,
            idempotency=Idempotency(self.front, self.database, settings.idempotency_wait_seconds),
            egress=self.egress,
            assets=self.assets,
            fetch_egress=self.fetch_egress,
            spool=settings.spool,
            room=self.room,
            form_limits=FormLimits(file_bytes=settings.max_upload_bytes, fields=fields),
            max_json_bytes=settings.max_json_bytes,
            tree_limits=TreeLimits(
                nodes=settings.max_nodes, depth=settings.max_depth, bytes=settings.max_operations_bytes
            ),
            image_limits=self.image_limits,
            memory_bytes=settings.pixel_process_memory_bytes,
            kept_seconds=settings.results_kept_seconds,
            idempotency_seconds=settings.idempotency_seconds,
            tenant_limits=self.tenant_limits,
        )

    @cached_property
    def assets(self) -> Assets:
        return Assets(
            database=self.database,
            storage=self.storage,
            spool=self.settings.spool,
            check_room=partial(check_room, self.room),
            check_image=self.image_limits.check,
            max_bytes=self.settings.max_asset_bytes,
            limits=self.tenant_limits,
        )

    @cached_property
    def image_limits(self) -> ImageLimits:
        settings = self.settings
        return ImageLimits(
            pixels=settings.max_pixels, side=settings.max_side, frames=settings.max_frames, heic=settings.heic
        )

    @cached_property
    def plans(self) -> Plans:
        settings = self.settings
        return Plans(
            submissions=self.submissions,
            max_upload_bytes=settings.max_upload_bytes,
            reference_seconds=settings.reference_decode_seconds,
        )

    @cached_property
    def tenant_limits(self) -> TenantLimits:
        """The limits for tenants without their own."""
        settings = self.settings
        return TenantLimits(
            requests_per_minute=settings.tenant_requests_per_minute,
            max_open_jobs=settings.open_jobs_of_tenant,
            max_bytes_per_day=settings.tenant_max_bytes_per_day,
            max_pixels_per_day=settings.tenant_max_pixels_per_day,
            max_storage_bytes=settings.tenant_max_storage_bytes,
            max_keep_seconds=settings.tenant_max_keep_seconds,
        )

    @cached_property
    def rates(self) -> Rates:
        return RedisRates(self.settings.redis_url) if self.settings.redis_url else MemoryRates()

    @cached_property
    def refusals(self) -> Refusals:
        return Refusals(self.database)

    def accounts(self) -> Accounts:
        return Accounts(self.database, every_seconds=self.settings.usage_seconds)

    @cached_property
    def waiters(self) -> Waiters:
        settings = self.settings
        return Waiters(self.database, settings.max_waits, self.stopping, alone=settings.embedded)

    @cached_property
    def live(self) -> Live:
        settings = self.settings
        return Live(
            self.database,
            self.links,
            self.door,
            most=settings.max_listeners,
            most_of_tenant=settings.listeners_of_tenant,
            stopping=self.stopping,
        )

    def note_end(self, job_id: UUID) -> None:
        """Notify the waiters and listeners of this process that a job has ended; may be called from any thread."""
        self.waiters.notify(job_id)
        self.live.notify(job_id)

    @cached_property
    def room(self) -> Room:
        settings = self.settings
        folders = {settings.spool, self.storage.folder, settings.data_dir if settings.embedded else None}
        return Room(tuple(folder for folder in folders if folder), settings.min_free_bytes)

    @cached_property
    def backpressure(self) -> Backpressure:
        return Backpressure(self.database, self.settings.max_open_jobs)

    def reconciler(self, waiting: Waiting) -> Reconciler:
        settings = self.settings
        return Reconciler(
            self.database,
            waiting,
            every_seconds=settings.reconcile_seconds,
            redispatch_seconds=settings.redispatch_seconds,
        )

    def dispatcher(self, send: Send, look: Look) -> Dispatcher:
        settings = self.settings
        if settings.embedded:
            sizes = Sizes(
                worker_takes=settings.worker_concurrency, fetch_takes=settings.fetch_concurrency, most_workers=1
            )
            return LocalDispatcher(self.database, send, look, sizes, pause=PAUSE)
        sizes = Sizes(
            worker_takes=settings.worker_takes,
            fetch_takes=settings.fetch_concurrency,
            most_workers=settings.most_workers,
        )
        return Dispatcher(self.database, send, look, sizes, pause=PAUSE)

    def retention(self) -> Retention:
        settings = self.settings
        return Retention(
            self.database,
            self.storage,
            every_seconds=settings.retention_seconds,
            letters_kept_seconds=settings.dead_letters_kept_seconds,
            events_kept_seconds=settings.events_kept_seconds,
            audit_kept_seconds=settings.audit_kept_seconds,
            tombstones_kept_seconds=settings.tombstones_kept_seconds,
        )

    @cached_property
    def checks(self) -> Checks:
        settings = self.settings
        urls = (settings.redis_url, settings.result_backend)
        return Probes(
            database=self.database,
            storage=self.storage,
            broker_url=None if settings.embedded else settings.broker_url,
            redis_urls=frozenset(url for url in urls if url and url.startswith("redis")),
            local_workers=self.local_workers,
            weights=tuple(settings.weights_by_profile.values()),
            check_network=self.check_network,
            room=self.room,
        ).checks()

    @cached_property
    def gauges(self) -> Gauges:
        return Gauges(self.database, self.checks, self.breakers)

    @cached_property
    def executor(self) -> Executor:
        settings = self.settings
        settings.spool.mkdir(parents=True, exist_ok=True)
        return Executor(
            database=self.database,
            storage=self.storage,
            renderer_of=self.renderer,
            deliverer=Deliverer(self.database, self.places),
            limits=Limits(pixels=settings.max_pixels, side=settings.max_side),
            spool=settings.spool,
            # objects that are files already need no cache
            inputs=InputCache(settings.spool / "inputs", 0 if self.storage.folder else settings.input_cache_bytes),
            lease_seconds=settings.step_lease_seconds,
            max_attempts=settings.step_max_attempts,
            must_stop=self.must_stop,
        )

    @cached_property
    def _renderers(self) -> dict[Queue, Renderer]:
        return {}

    def renderer(self, queue: Queue) -> Renderer:
        """The renderer for a queue. If it is called at the start, the first task does not have to wait for the process.

        Raises:
            InvalidWeights: the weights of the network cannot be loaded.
        """
        if queue not in self._renderers:
            self._renderers[queue] = self._renderer(queue)
        return self._renderers[queue]

    def _renderer(self, queue: Queue) -> Renderer:
        if queue is Queue.ML:
            self.network_sandbox.warm()
            return partial(self.network_sandbox.render, timeout=self.settings.denoise_timeout_seconds)
        return partial(self.sandbox.render, timeout=self.settings.step_timeout_seconds)

    def _denoiser(self) -> dict[str, Any]:
        """The arguments of `app.ml.denoise.configure`."""
        settings = self.settings
        return {
            "weights": {profile: str(file) for profile, file in settings.weights_by_profile.items()},
            "memory_bytes": settings.denoise_memory_bytes,
            "threads": settings.denoise_threads,
            "int8": settings.denoise_int8,
        }

    def check_network(self) -> None:
        """Check the weights without loading ONNX Runtime.

        Raises:
            NotInstalled: ONNX Runtime is not installed.
            InvalidWeights: the files in the settings do not contain such a network.
        """
        check_installed(Queue.ML)
        settings = self.settings
        _check_weights(dncnn.load, settings.denoise_weights, "PIXTOOLS_DENOISE_WEIGHTS to a DnCNN checkpoint")
        for weights, setting in (
            (settings.denoise_fast_weights, "PIXTOOLS_DENOISE_FAST_WEIGHTS"),
            (settings.denoise_camera_weights, "PIXTOOLS_DENOISE_CAMERA_WEIGHTS"),
        ):
            _check_weights(unet.load, weights, f"{setting} to a residual U-Net")
            quantized = unet.quantized_file(weights)
            if settings.denoise_int8 != "no" and quantized.exists():
                _check_weights(unet.load, quantized, "PIXTOOLS_DENOISE_INT8 to no", quantized=True)

    @cached_property
    def sandbox(self) -> Sandbox:
        settings = self.settings
        # a child of Celery's pool runs one task at a time; in the embedded mode, one more process is for small work
        processes = settings.worker_concurrency + 1 if settings.embedded else 1
        memory_bytes, sharing = settings.pixel_process_memory_bytes, settings.worker_concurrency
        return Sandbox(processes, memory_bytes, sharing, reserve=settings.embedded)

    @cached_property
    def network_sandbox(self) -> Sandbox:
        limit = self.settings.pixel_process_memory_bytes
        memory_bytes = limit + NETWORK_ADDRESS_SPACE + self.settings.denoise_memory_bytes if limit else None
        return Sandbox(1, memory_bytes, denoiser=self._denoiser())

    @cached_property
    def egress(self) -> Egress:
        # twice as many: a silent name server blocks a thread for longer than an attempt takes
        places = self.settings.webhook_concurrency
        sending = Resolver(most=2 * places, of_one=places)
        settings = self.settings
        return Egress(
            settings.webhook_ports,
            settings.webhook_allowed_networks or (),
            networks_while_open=settings.webhook_networks,
            is_open=self.door.is_open_now,
            own_origin=settings.public_url or "",
            own_port=settings.own_port,
            sending=sending,
        )

    @cached_property
    def fetch_egress(self) -> Egress:
        settings, places = self.settings, self.settings.fetch_concurrency
        return Egress(
            settings.fetch_allowed_ports,
            settings.fetch_allowed_networks or (),
            networks_while_open=settings.fetch_networks,
            is_open=self.door.is_open_now,
            own_origin=settings.public_url or "",
            own_port=settings.own_port,
            sending=Resolver(most=2 * places, of_one=places),
            purpose=SOURCES,
        )

    @cached_property
    def fetcher(self) -> Fetcher:
        settings = self.settings
        settings.spool.mkdir(parents=True, exist_ok=True)
        places = settings.fetch_concurrency
        host_limits = HostLimits(max(1, places // HOST_SHARE), places)
        limits = FetchLimits(
            bytes=settings.max_upload_bytes,
            seconds=settings.fetch_timeout_seconds,
            redirects=settings.fetch_max_redirects,
        )
        return Fetcher(
            database=self.database,
            storage=self.storage,
            spool=settings.spool,
            lease_seconds=settings.step_lease_seconds,
            max_attempts=settings.step_max_attempts,
            must_stop=self.must_stop,
            web=WebClient(egress=self.fetch_egress, host_limits=host_limits, limits=limits),
            buckets=BucketClient(places=self.places, host_limits=host_limits, limits=limits),
            rules=InputRules(image_limits=self.image_limits, memory_bytes=settings.pixel_process_memory_bytes),
            tenant_limits=self.tenant_limits,
        )

    @cached_property
    def breakers(self) -> Breakers:
        settings = self.settings
        return Breakers(
            failures=settings.webhook_breaker_failures,
            reset_seconds=settings.webhook_breaker_seconds,
            probe_seconds=settings.webhook_timeout_seconds,
            redis_url=settings.redis_url,
        )

    @cached_property
    def webhooks(self) -> WebhookSender:
        settings = self.settings
        return WebhookSender(
            database=self.database,
            links=self.links,
            egress=self.egress,
            breakers=self.breakers,
            host_limits=HostLimits(max(1, settings.webhook_concurrency // HOST_SHARE), settings.webhook_concurrency),
            timeout_seconds=settings.webhook_timeout_seconds,
            pauses=settings.webhook_retry_seconds,
            must_stop=self.must_stop,
        )

    async def aclose(self) -> None:
        made: dict[str, Any] = self.__dict__
        for name in ("sandbox", "network_sandbox"):
            if name in made:
                made[name].close()
        if isinstance(made.get("front"), RedisFront):
            await made["front"].close()
        if "rates" in made:
            await self.rates.close()
        if "database" in made:
            await self.database.aclose()


def _s3_bucket(settings: Settings) -> S3Bucket:
    return S3Bucket(
        bucket=urlsplit(settings.storage).netloc,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        region=settings.s3_region,
        access_key=_revealed(settings.s3_access_key),
        secret_key=_revealed(settings.s3_secret_key),
    )


def _google_bucket(settings: Settings) -> GoogleBucket:
    return GoogleBucket(
        bucket=urlsplit(settings.storage).netloc,
        endpoint=settings.gcs_endpoint,
        service_account=settings.gcs_service_account,
    )


def _azure_container(settings: Settings) -> AzureContainer:
    return AzureContainer(
        bucket=urlsplit(settings.storage).netloc,
        endpoint=settings.azure_endpoint,
        public_endpoint=settings.azure_public_endpoint,
        account=settings.azure_account,
        account_key=_revealed(settings.azure_key),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


#: bucket clients by scheme of the storage URL; any other URL is a local folder
BUCKETS: dict[str, Callable[[Settings], CloudPeer]] = {"s3": _s3_bucket, "gs": _google_bucket, "az": _azure_container}


def check_installed(queue: Queue) -> None:
    """Check that the library for a queue's work is installed, without loading it.

    Raises:
        NotInstalled: PixTools was installed without the extra that the queue needs.
    """
    module, requirements = LIBRARIES.get(queue, ("", ""))
    if module and find_spec(module) is None:
        raise NotInstalled(f"{module} is not installed, and {queue} needs it: {installing(requirements)}")


@cache  # `pixtools serve` checks before it starts, and its ML worker once more
def _check_weights(load: Callable[..., object], file: Path, setting: str, **options: bool) -> None:
    try:
        load(file, **options)
    except InvalidWeights as error:
        raise InvalidWeights(f"{error.message} Set {setting}.") from None


def _create_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_hex(32))
    try:
        os.link(draft, path)  # atomic, and fails if a key exists: of several processes, the first one wins
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
