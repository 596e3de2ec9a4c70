"""The client. Generated from `async_client.py` by `make_sync.py`: change that file instead."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import httpx

from pixtools_client import protocol
from pixtools_client.environment import address_of, key_of_environment, origin_of_key, server_of_environment
from pixtools_client.errors import (
    ClientError,
    DownloadFailed,
    JobFailed,
    JobNotFound,
    LimitReached,
    NotFound,
    Refused,
    ServerAway,
    WaitTimeout,
)
from pixtools_client.protocol import Call, EventParser, File, IfExists, Moment, Operations, Source, Tries, Upload, part
from pixtools_client.types import (
    Asset,
    Delivery,
    Endpoint,
    Event,
    FactsSource,
    Job,
    Key,
    Output,
    Plan,
    Result,
    Store,
    Template,
    TemplateSummary,
)


class Client:
    """A client of one PixTools server."""

    def __init__(
        self,
        server: str | None = None,
        *,
        key: str | None = None,
        patience: float = protocol.PATIENCE,
        on_retry: Callable[[ClientError, float], None] | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """Create a client, without sending a request.

        Args:
            server: URL of the server; an address on this machine may lack `http://`. Default: `PIXTOOLS_URL`, or the
                server on this machine.
            key: API key; default: `PIXTOOLS_KEY`, or the content of a file (see `environment.key_of_environment`).
            patience: seconds for which a repeatable request is retried while the server is away or overloaded.
            on_retry: called before each retry with the error and the seconds until the retry.
            http: HTTP client to use, for proxies, certificates and the like; default: a new one.
        """
        self.server = address_of(server or server_of_environment())
        self.patience = patience
        self._on_retry = on_retry
        self._http = http or httpx.Client(timeout=protocol.TIMEOUT)
        known = key or key_of_environment()
        #: of requests to the server itself; no other server that its links lead to gets the key
        self._own = protocol.authorization(known, "the argument `key`" if key else origin_of_key())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- requests ------------------------------------------------------------------------------------------------------

    def call(self, call: Call) -> Any:
        """Send one request; returns the decoded response, or None if it has no body.

        Raises:
            Refused: the server refuses the request.
            ServerAway: the server does not answer, or cannot at the moment.
        """
        tries = Tries(self.patience if call.repeatable else 0)
        while True:
            answer = self._try(call, tries)
            if answer is not None:
                return answer.json() if answer.content else None

    def _try(self, call: Call, tries: Tries, **body: Any) -> httpx.Response | None:
        """Send a request once; returns the response, or None if it should be sent again."""
        try:
            response = self._http.request(
                call.method,
                self.server + call.path,
                headers={**self._own, **call.headers},
                timeout=call.timeout or protocol.TIMEOUT,
                **call.options(),
                **body,
            )
        except (UnicodeError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Refused(f"The request cannot be sent: {error}") from None
        except httpx.HTTPError as error:
            tries.spend(error)
            self._later(tries, protocol.away(self.server, error))
            return None
        if not response.is_error:
            return response
        if not protocol.may_pass(response):
            raise protocol.failure(response)
        self._later(tries, protocol.failure(response), response)
        return None

    def _later(self, tries: Tries, error: Refused | ServerAway, response: httpx.Response | None = None) -> None:
        pause = tries.pause(response)
        if pause is None:
            raise error
        if self._on_retry:
            self._on_retry(error, pause)
        time.sleep(pause)

    def _pages(self, path: str, limit: int | None, **filters: Any) -> Iterator[Any]:
        """The entries of a list, page by page, up to `limit`."""
        cursor = None
        while limit is None or limit > 0:
            size = min(limit or protocol.MAX_PAGE, protocol.MAX_PAGE)
            page = self.call(protocol.get(path, **filters, limit=size, cursor=cursor))
            for entry in page["data"]:
                yield entry
            if not page["has_more"]:
                return
            limit = None if limit is None else limit - len(page["data"])
            cursor = page["next_cursor"]

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def submit(
        self,
        source: Source,
        operations: Operations | None = None,
        *,
        template: str | None = None,
        params: Mapping[str, Any] | None = None,
        filename: str | None = None,
        tags: Mapping[str, str] | None = None,
        external_id: str | None = None,
        keep_seconds: int | None = None,
        output: Output | None = None,
        webhook_url: str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Job:
        """Submit an image, or a reference to one that the server fetches; returns the accepted job.

        Args:
            source: a path, the bytes, or an open file. For an image that the server fetches: a URL, as text or as
                `{"url": …, "headers": {…}}`; `{"store": …, "key": …}`; `{"job": …, "result": …}`.
            operations: the tree, as JSON text or as a value, or names separated by commas.
            template: name of a template, instead of operations; `shop@2` is version 2 of `shop`.
            params: values for the parameters of the template.
            filename: name of the file; default: the name in the path, or in the URL or key of a fetched image.
            tags: names and values by which the job can be found.
            external_id: your own id for the job, which must be unique among your jobs.
            keep_seconds: seconds from the job's end until it is removed; default: the setting of the server.
            output: store to which copies of the results are written.
            webhook_url: URL that gets a POST request when the job has ended.
            priority: 0 to 9; jobs with 9 come first.
            idempotency_key: for a day, the same key returns the same job; default: a new key, so that the request can
                be repeated if the response is lost.
            fields: additional fields of the request, for servers that support them.

        Raises:
            Refused: the server refuses the request.
            ServerAway: the server does not answer, or cannot at the moment.
        """
        order = {
            "template": template,
            "params": params,
            "tags": tags,
            "external_id": external_id,
            "keep_seconds": keep_seconds,
            "output": output,
            "webhook_url": webhook_url,
            "priority": priority,
            **fields,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        call = Call(method="POST", path="/process", headers=headers, repeatable=True)
        return self._send(call, source, operations, filename, order)  # type: ignore[no-any-return]

    def plan(
        self,
        source: Source | FactsSource,
        operations: Operations | None = None,
        *,
        template: str | None = None,
        params: Mapping[str, Any] | None = None,
        filename: str | None = None,
        **fields: Any,
    ) -> Plan:
        """Plan a request: returns what it would do and cost. No job is created, and nothing is fetched.

        Args:
            source: see `submit`; or `{"facts": {"format": …, "width": …, "height": …, "bytes": …}}` for an image that
                is not sent.
            operations: see `submit`.
            template: see `submit`.
            params: see `submit`.
            filename: see `submit`.
            fields: further arguments of `submit`.

        Raises:
            Refused: the server would refuse the request; `errors` has all mistakes.
        """
        call = Call(method="POST", path="/plan", repeatable=True)
        order = {"template": template, "params": params, **fields}
        return self._send(call, source, operations, filename, order)  # type: ignore[no-any-return]

    def _send(
        self,
        call: Call,
        source: Source | FactsSource,
        operations: Operations | None,
        filename: str | None,
        order: Mapping[str, Any],
    ) -> Any:
        """Send an image and its operations: as a form, or as JSON if the server fetches the image."""
        remote = protocol.elsewhere(source)
        if remote is not None:
            body = protocol.body_of(remote, operations, {**order, "filename": filename})
            return self.call(replace(call, json=body))
        upload = Upload(cast("File", source), filename)
        form = protocol.form_of(operations, order)
        tries = Tries(self.patience)
        while True:
            opened = upload.open()
            try:
                answer = self._try(call, tries, data=form, files={"file": (upload.filename, opened)})
            finally:
                upload.close(opened)
            if answer is not None:
                return answer.json()

    def run(
        self,
        source: Source,
        operations: Operations | None = None,
        *,
        to: str | Path | None = None,
        if_exists: IfExists = "fail",
        timeout: float | None = None,
        **options: Any,
    ) -> Job:
        """Submit an image, or a reference to one that the server fetches, and wait for the results.

        Args:
            source: see `submit`.
            operations: see `submit`.
            to: folder for the results, which is created if necessary; default: results are not downloaded.
            if_exists: see `download`.
            timeout: see `wait`.
            options: further arguments of `submit`, e.g. `template`.

        Raises:
            JobFailed: the job ended without all of its results; the existing ones have been written.
            WaitTimeout: the job has not ended in time.
        """
        job = self.wait(self.submit(source, operations, **options), timeout=timeout)
        if to is not None:
            Path(to).mkdir(parents=True, exist_ok=True)
            for result in job["results"]:
                self.download(result, to, if_exists=if_exists)
        if job["status"] != "completed":
            raise JobFailed(job)
        return job

    def job(self, job_id: str) -> Job:
        """The current state of a job, with fresh links to its results."""
        return self.call(protocol.get(f"/jobs/{part(job_id)}"))  # type: ignore[no-any-return]

    def jobs(
        self,
        *,
        limit: int | None = None,
        status: str | None = None,
        tag: str | None = None,
        external_id: str | None = None,
        filename: str | None = None,
        created_after: Moment | None = None,
        created_before: Moment | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page. A job must match all filters.

        Args:
            limit: most jobs; default: all.
            status: only jobs with this status.
            tag: only jobs with this tag; name and value, e.g. `sku:7`.
            external_id: only the job with this external id.
            filename: only jobs with exactly this name of the upload.
            created_after: only jobs created at or after this time, which has a time zone.
            created_before: only jobs created before this time, which has a time zone.
        """
        filters = {"status": status, "tag": tag, "external_id": external_id, "filename": filename}
        times = {"created_after": created_after, "created_before": created_before}
        for job in self._pages("/jobs", limit, **filters, **times):
            yield job

    def follow(self, job: Job | str, *, timeout: float | None = None) -> Iterator[Job]:
        """The state of a job after every change until it has ended, by live events or, if there are none, by polling.

        Args:
            job: the job or its id.
            timeout: seconds to wait at most; default: no limit.

        Raises:
            WaitTimeout: the job has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        job_id = job if isinstance(job, str) else job["id"]
        latest = self.job(job_id) if isinstance(job, str) else job
        yield latest
        streams, tries = True, Tries(self.patience)
        while protocol.is_open(latest):
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(latest)
            source = self._streamed(job_id, deadline) if streams else self._held(job_id, deadline)
            try:
                for latest in source:
                    tries = Tries(self.patience)
                    yield latest
            except (NotFound, LimitReached) as error:
                if not streams or isinstance(error, JobNotFound):
                    raise
                streams = False
            except ServerAway as away:
                self._later(tries, away)

    def _streamed(self, job_id: str, deadline: float | None) -> Iterator[Job]:
        left = None if deadline is None else max(0.1, deadline - time.monotonic())
        with self._stream(f"/jobs/{part(job_id)}/events", None, seconds=left) as lines:
            parser = EventParser()
            for line in lines:
                event = parser.feed(line)
                if event and event[0] == "job":
                    yield event[1]
                if deadline is not None and time.monotonic() >= deadline:
                    return  # comments keep a stream from being silent

    def _held(self, job_id: str, deadline: float | None) -> Iterator[Job]:
        left = protocol.HELD if deadline is None else max(0, min(protocol.HELD, round(deadline - time.monotonic())))
        began = time.monotonic()
        headers = {"Prefer": f"wait={left}"}
        yield self.call(protocol.get(f"/jobs/{part(job_id)}", headers=headers, timeout=protocol.WAITING))
        if time.monotonic() - began < protocol.POLL:
            time.sleep(protocol.POLL)

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Wait for the end of a job; returns the job, whether or not it has succeeded.

        Raises:
            WaitTimeout: the job has not ended in time; it continues.
        """
        for latest in self.follow(job, timeout=timeout):
            if not protocol.is_open(latest):
                return latest
        raise ServerAway(f"{self.server} no longer reports the job")

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; existing results are kept."""
        call = protocol.post(f"/jobs/{part(job_id)}/cancel", repeatable=True)
        return self.call(call)  # type: ignore[no-any-return]

    def retry(self, job_id: str) -> Job:
        """Repeat the steps that failed, were skipped or were cancelled."""
        return self.call(protocol.post(f"/jobs/{part(job_id)}/retry"))  # type: ignore[no-any-return]

    def delete(self, job_id: str) -> None:
        """Erase a job and all its objects."""
        self.call(protocol.delete(f"/jobs/{part(job_id)}"))

    def timeline(self, job_id: str) -> list[str]:
        """The timeline of a job in words, one line for each event."""
        return (self.call(protocol.get(f"/jobs/{part(job_id)}/timeline")))["lines"]  # type: ignore[no-any-return]

    # -- files ---------------------------------------------------------------------------------------------------------

    def download(self, result: Result, to: str | Path = ".", *, if_exists: IfExists = "fail") -> Path:
        """Write one result to a file; returns the path of the file.

        Args:
            result: result of a job.
            to: an existing folder, or the path of the file.
            if_exists: what to do if a file with other content exists: `fail`, `replace` the file, `skip` the result, or
                `rename` the result to a free name. A file with the same content is kept.

        Raises:
            FileExists: a file with this name and other content exists.
            DownloadFailed: the result cannot be fetched or written.
        """
        path = protocol.target_of(result, Path(to))
        if protocol.there_already(path, result, if_exists):
            return path
        try:
            with protocol.unfinished(path) as written:
                with written.open("xb") as file:
                    self._fetch(result, file)
                return protocol.put(written, path, if_exists)
        except OSError as error:
            raise DownloadFailed(f"{path}: {error.strerror}") from None

    def _fetch(self, result: Result, file: IO[bytes]) -> None:
        tries = Tries(self.patience)
        while True:
            file.seek(0)
            file.truncate()
            try:
                return self._fetch_once(result, file)
            except httpx.HTTPError as error:
                broken = ServerAway(f"the download broke off: {error}")
            except ServerAway as away:
                broken = away
            try:
                self._later(tries, broken)
            except ServerAway as away:
                raise DownloadFailed(f"{result['name']}: {away}") from None

    def _fetch_once(self, result: Result, file: IO[bytes]) -> None:
        with self._http.stream("GET", result["url"], follow_redirects=True) as response:
            if response.is_error:
                response.read()
                error = protocol.failure(response)
                if isinstance(error, ServerAway):
                    raise error
                raise DownloadFailed(f"{result['name']}: {error}")
            check = protocol.Check(result)
            for chunk in response.iter_bytes(protocol.CHUNK):
                file.write(check.add(chunk))
            check.finish()

    def read(self, result: Result) -> bytes:
        """The content of one result."""
        response = self._http.get(result["url"], follow_redirects=True)
        if response.is_error:
            raise DownloadFailed(f"{result['name']}: {protocol.failure(response)}")
        return response.content

    def archive(self, job_id: str, to: str | Path, *, if_exists: IfExists = "fail") -> Path:
        """Write all results of a job to one ZIP file; returns its path.

        Args:
            job_id: id of the job.
            to: an existing folder, or the path of the file.
            if_exists: what to do if the file exists: `fail`, `replace` it, `skip` the archive, or `rename` the new
                file to a free name.

        Raises:
            FileExists: the file exists.
            DownloadFailed: the results cannot be fetched or written.
        """
        path = Path(to)
        path = path / f"pixtools-{job_id}.zip" if path.is_dir() else path
        if protocol.there_already(path, None, if_exists):
            return path
        url = f"{self.server}/jobs/{part(job_id)}/archive"
        try:
            with protocol.unfinished(path) as written:
                with self._http.stream("GET", url, headers=self._own) as response:
                    if response.is_error:
                        response.read()
                        raise protocol.failure(response)
                    with written.open("xb") as file:
                        for chunk in response.iter_bytes(protocol.CHUNK):
                            file.write(chunk)
                return protocol.put(written, path, if_exists)
        except httpx.HTTPError as error:
            raise DownloadFailed(f"{path}: the download broke off: {error}") from None
        except OSError as error:
            raise DownloadFailed(f"{path}: {error.strerror}") from None

    # -- events --------------------------------------------------------------------------------------------------------

    def events(self, *, after: str = "0", type: str | None = None) -> Iterator[Event]:  # noqa: A002
        """The stored events, oldest first, up to the end of the log."""
        while True:
            page = self.call(protocol.get("/events", after=after, type=type, limit=protocol.MAX_PAGE))
            for event in page["data"]:
                yield event
            if not page["has_more"]:
                return
            after = page["next_after"]

    def live_events(self, *, after: str | None = None, type: str | None = None) -> Iterator[Event]:  # noqa: A002
        """An endless stream of events as they happen. It continues after a restart of the server, without gaps.

        Args:
            after: id of the event after which to start; default: only new events.
            type: only events of this type.
        """
        parser, tries = EventParser(after), Tries(self.patience)
        while True:
            try:
                with self._stream("/events/stream", parser.last_id, type=type) as lines:
                    for line in lines:
                        tries = Tries(self.patience)
                        event = parser.feed(line)
                        if event:
                            yield event[1]
            except ServerAway as away:
                self._later(tries, away)

    @contextmanager
    def _stream(
        self, path: str, cursor: str | None, *, seconds: float | None = None, **params: Any
    ) -> Iterator[Iterator[str]]:
        """The lines of a stream of events, until the server ends it.

        Args:
            path: path of the stream.
            cursor: id of the last event that was received.
            seconds: seconds without a line after which the connection counts as broken; default: longer than the
                interval of comments.
            params: parameters of the query.

        Raises:
            ServerAway: the connection was lost.
        """
        timeout = protocol.silence(seconds)
        headers = {**self._own, **protocol.headers_behind(cursor)}
        given = {name: value for name, value in params.items() if value is not None}
        try:
            with self._http.stream(
                "GET", self.server + path, params=given, headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    response.read()
                    raise protocol.failure(response)
                yield response.iter_lines()
        except httpx.HTTPError as error:
            raise protocol.away(self.server, error) from None

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def webhooks(self) -> list[Endpoint]:
        """All webhook receivers."""
        return self.call(protocol.get("/webhooks"))["data"]  # type: ignore[no-any-return]

    def create_webhook(self, url: str, *, events: Sequence[str] = (), description: str = "") -> dict[str, Any]:
        """Register a receiver; the response has its `secret`, which is shown only once."""
        body = {"url": url, "events": list(events), "description": description}
        return self.call(protocol.post("/webhooks", body))  # type: ignore[no-any-return]

    def update_webhook(self, endpoint_id: str, **changes: Any) -> Endpoint:
        """Change `url`, `events`, `description` or `enabled`."""
        call = Call(method="PATCH", path=f"/webhooks/{part(endpoint_id)}", json=changes, repeatable=True)
        return self.call(call)  # type: ignore[no-any-return]

    def delete_webhook(self, endpoint_id: str) -> None:
        """Delete a receiver with its deliveries."""
        self.call(protocol.delete(f"/webhooks/{part(endpoint_id)}"))

    def rotate_webhook(self, endpoint_id: str, *, overlap_seconds: int = 86_400) -> str:
        """Create and return a new secret for a receiver; for `overlap_seconds` the old one signs as well."""
        call = protocol.post(f"/webhooks/{part(endpoint_id)}/rotate", {"overlap_seconds": overlap_seconds})
        return self.call(call)["secret"]  # type: ignore[no-any-return]

    def test_webhook(self, endpoint_id: str) -> Delivery:
        """Send a test event of type `webhook.test`."""
        return self.call(protocol.post(f"/webhooks/{part(endpoint_id)}/test"))  # type: ignore[no-any-return]

    def replay_webhook(
        self, endpoint_id: str, *, since: Moment, until: Moment | None = None, missed_only: bool = False
    ) -> dict[str, Any]:
        """Send all events of a period to a receiver again."""
        times = {"since": str(since), "until": None if until is None else str(until), "missed_only": missed_only}
        return self.call(protocol.post(f"/webhooks/{part(endpoint_id)}/replay", times))  # type: ignore[no-any-return]

    def replays(self, endpoint_id: str) -> list[dict[str, Any]]:
        """The replays of a receiver, newest first."""
        path = f"/webhooks/{part(endpoint_id)}/replays"
        return self.call(protocol.get(path))["data"]  # type: ignore[no-any-return]

    def deliveries(
        self,
        *,
        limit: int | None = None,
        status: str | None = None,
        endpoint: str | None = None,
        job: str | None = None,
    ) -> Iterator[Delivery]:
        """Deliveries to receivers, newest first."""
        for delivery in self._pages("/deliveries", limit, status=status, endpoint=endpoint, job=job):
            yield delivery

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its attempts."""
        return self.call(protocol.get(f"/deliveries/{part(delivery_id)}"))  # type: ignore[no-any-return]

    def replay_delivery(self, delivery_id: str) -> Delivery:
        """Send the event of a delivery again."""
        return self.call(protocol.post(f"/deliveries/{part(delivery_id)}/replay"))  # type: ignore[no-any-return]

    # -- assets --------------------------------------------------------------------------------------------------------

    def assets(self) -> list[Asset]:
        """All images and fonts that trees can use."""
        return self.call(protocol.get("/assets"))["data"]  # type: ignore[no-any-return]

    def asset(self, name: str) -> Asset:
        """The properties of an image or a font.

        Raises:
            AssetNotFound: there is no asset with this name.
        """
        return self.call(protocol.get(f"/assets/{part(name)}"))  # type: ignore[no-any-return]

    def put_asset(self, name: str, content: bytes) -> Asset:
        """Store an image or a font, or replace it.

        Raises:
            Refused: the content is neither an image nor a font, or exceeds a limit.
        """
        return self.call(protocol.store(f"/assets/{part(name)}", content=content))  # type: ignore[no-any-return]

    def delete_asset(self, name: str) -> None:
        """Delete an image or a font; refused while an unfinished job uses it."""
        self.call(protocol.delete(f"/assets/{part(name)}"))

    # -- templates and stores ------------------------------------------------------------------------------------------

    def templates(self) -> list[TemplateSummary]:
        """The latest version of each template, without its tree."""
        return self.call(protocol.get("/templates"))["data"]  # type: ignore[no-any-return]

    def template(self, name: str) -> Template:
        """A template, or one version of it: `shop@2`.

        Raises:
            TemplateNotFound: there is no template with this name, or no such version.
        """
        return self.call(protocol.get(f"/templates/{part(name)}"))  # type: ignore[no-any-return]

    def put_template(
        self,
        name: str,
        operations: Operations,
        *,
        params: Mapping[str, Any] | None = None,
        output: Mapping[str, Any] | None = None,
    ) -> Template:
        """Store a template, or a new version of one, unless it is equal to the latest version.

        Args:
            name: name of the template in requests.
            operations: the tree, in which `{"param": "width"}` is a placeholder for a whole value.
            params: JSON schema of the parameters.
            output: store to which copies of the results are written.

        Raises:
            Invalid: the template cannot work; `errors` has the mistakes.
            Conflict: a built-in template has this name.
        """
        body = {"operations": protocol.nodes_of(operations), "params": params or {}, "output": output}
        return self.call(protocol.store(f"/templates/{part(name)}", body=body))  # type: ignore[no-any-return]

    def delete_template(self, name: str) -> None:
        """Delete a template with all its versions."""
        self.call(protocol.delete(f"/templates/{part(name)}"))

    def stores(self) -> list[Store]:
        """All connections to buckets."""
        return self.call(protocol.get("/stores"))["data"]  # type: ignore[no-any-return]

    def store(self, name: str) -> Store:
        """A connection to a bucket, without its credentials.

        Raises:
            StoreNotFound: there is no store with this name.
        """
        return self.call(protocol.get(f"/stores/{part(name)}"))  # type: ignore[no-any-return]

    def put_store(
        self,
        name: str,
        url: str,
        credentials: Mapping[str, str],
        *,
        endpoint: str | None = None,
        region: str | None = None,
    ) -> Store:
        """Save a connection to a bucket, or change it; the server tries it at once.

        Args:
            name: name of the store in requests.
            url: `s3://bucket`, `gs://bucket` or `az://container`.
            credentials: credentials, named as in the server's documentation; the server never shows them again.
            endpoint: endpoint, which the operator must have allowed; default: that of the provider.
            region: region of S3; default: the setting of the server.

        Raises:
            Invalid: the bucket does not exist, or these credentials do not give access to it.
        """
        body = {"url": url, "credentials": dict(credentials), "endpoint": endpoint, "region": region}
        return self.call(protocol.store(f"/stores/{part(name)}", body=body))  # type: ignore[no-any-return]

    def delete_store(self, name: str) -> None:
        """Delete a connection; the bucket stays as it is."""
        self.call(protocol.delete(f"/stores/{part(name)}"))

    # -- keys and accounts ---------------------------------------------------------------------------------------------

    def keys(self, *, tenant: str | None = None) -> list[Key]:
        """All API keys of a tenant; default: the tenant of this client's key."""
        return self.call(protocol.get("/keys", tenant=tenant))["data"]  # type: ignore[no-any-return]

    def create_key(self, scopes: Sequence[str], *, description: str = "", **more: Any) -> dict[str, Any]:
        """Create an API key; the response has it as `key`, which is shown only once.

        Args:
            scopes: permissions of the key.
            description: a note for people.
            more: further members of the request: `expires_at`, `tenant`.
        """
        body = {"scopes": list(scopes), "description": description, **more}
        return self.call(protocol.post("/keys", body))  # type: ignore[no-any-return]

    def revoke_key(self, key_id: str) -> None:
        """Revoke an API key; within 5 seconds, all processes of the server refuse it."""
        self.call(protocol.delete(f"/keys/{part(key_id)}"))

    def usage(
        self, *, since: str | None = None, until: str | None = None, tenant: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Usage by day, key and template; days are given as `2026-11-29`."""
        for entry in self._pages("/usage", None, since=since, until=until, tenant=tenant):
            yield entry

    def audit(
        self, *, since: Moment | None = None, until: Moment | None = None, tenant: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The audit log, oldest first."""
        call = protocol.get("/audit", since=since, until=until, tenant=tenant)
        with self._http.stream(
            "GET", self.server + call.path, headers=self._own, timeout=protocol.TIMEOUT, **call.options()
        ) as response:
            if response.is_error:
                response.read()
                raise protocol.failure(response)
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)

    # -- the operator's ------------------------------------------------------------------------------------------------

    def tenants(self) -> list[dict[str, Any]]:
        """All tenants; needs the scope `admin`."""
        return self.call(protocol.get("/tenants"))["data"]  # type: ignore[no-any-return]

    def dead_letters(self, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Work that was given up, newest first."""
        for letter in self._pages("/dead-letters", limit):
            yield letter

    def redrive(self, letter_id: str) -> dict[str, Any]:
        """Run the work of a dead letter again."""
        return self.call(protocol.post(f"/dead-letters/{part(letter_id)}/redrive"))  # type: ignore[no-any-return]

    def operations(self) -> list[dict[str, Any]]:
        """All operations, each with the JSON schema of its parameters."""
        return self.call(protocol.get("/operations"))["operations"]  # type: ignore[no-any-return]

    def live(self) -> None:
        """Return if the server answers at all, or else raise an error."""
        self.call(protocol.get("/health/live", timeout=protocol.FIRST_CONTACT))

    def health(self) -> dict[str, Any]:
        """Whether the server can take work."""
        return self.call(protocol.get("/health/ready"))  # type: ignore[no-any-return]

    def checks(self) -> dict[str, dict[str, Any]]:
        """The parts of the service by name, with `status`, `seconds` and `error`; needs the scope `admin`."""
        try:
            return self.call(protocol.get("/health"))["checks"]  # type: ignore[no-any-return]
        except ServerAway as error:
            if "checks" in error.problem:  # an answer as well: the service is down
                return error.problem["checks"]  # type: ignore[no-any-return]
            raise
