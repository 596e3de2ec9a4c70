"""Plans: what a request would do and cost, and all its mistakes, without storing anything or creating a job.

The checks are those of a submission, one after the other, but they collect errors instead of stopping at the first.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from app.errors import ExternalIdTaken, InvalidSource, PixToolsError, UploadTooLarge
from app.formats import FORMATS
from app.imaging.probe import ImageHeader
from app.services import jobs
from app.services.dag_builder import Plan
from app.services.intake.costs import Estimate, Input, estimate
from app.services.intake.findings import Findings
from app.services.intake.json_request import MEMBERS, read_request
from app.services.intake.rules import FILE_POINTER
from app.services.intake.sources import DataSource, read_source
from app.services.intake.submission import (
    DATA_POINTER,
    Checked,
    Order,
    Request,
    Submissions,
    order_of,
    order_of_json,
    read_header,
)
from app.services.intake.validation import escaped, short

MOST = 2**31 - 1  # limit of a number that is only reported
FACTS = ("format", "width", "height", "bytes")
FACTS_POINTER = "#/input/facts"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about an image that is not sent."""

    header: ImageHeader
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan of a request, its cost, and its results."""

    checked: Checked
    plan: Plan
    #: None: the image has yet to be fetched
    header: ImageHeader | None
    bytes: int | None
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Plans:
    """The service that plans requests."""

    submissions: Submissions
    max_upload_bytes: int
    #: CPU time of the reference decode on the machines of the workers
    reference_seconds: float

    async def of_form(self, body: AsyncIterator[bytes], boundary: str, request: Request) -> Planned:
        """Plan a form with a file.

        Raises:
            PixToolsError: a submission would be refused with this error; each mistake has an entry.
        """
        form = await self.submissions.receive(body, boundary)
        findings, header = Findings(at_once=False), None
        try:
            with findings.noting():
                header = await read_header(form.file)
        finally:
            form.close()
        return await self._planned(order_of(form, findings), header, form.size, request, findings)

    async def of_json(self, body: bytes, request: Request) -> Planned:
        """Plan a JSON body; its source is not fetched.

        Raises:
            PixToolsError: a submission would be refused with this error; each mistake has an entry.
        """
        findings = Findings(at_once=False)
        wanted = read_request(body, findings, {**MEMBERS, "input": _read_input})
        header, size, given = None, None, wanted.input
        with findings.noting():
            if isinstance(given, DataSource):
                size = len(given.content)
                header = await _header_of(given)
            elif isinstance(given, Facts):
                header, size = given.header, given.bytes
                self._check_bytes(size)
            elif given is not None:
                await self.submissions.check_source(given, request.principal.tenant)
        return await self._planned(order_of_json(wanted), header, size, request, findings)

    def _check_bytes(self, size: int) -> None:
        most = self.max_upload_bytes
        if size > most:
            detail = f"The upload would be larger than {most} bytes."
            raise UploadTooLarge(detail, pointer=f"{FACTS_POINTER}/bytes", limit=most, value=size)

    async def _planned(
        self, order: Order, header: ImageHeader | None, size: int | None, request: Request, findings: Findings
    ) -> Planned:
        checked = await self.submissions.check_order(order, request.principal, findings)
        with findings.noting():
            await self._check_name(order, request)
        if checked is not None and header is not None:
            self.submissions.check_input(checked, header, findings)
        for error in findings.errors:
            error.pointer = _place(error, order)
        findings.check()
        if checked is None:
            raise AssertionError("what is wrong is raised")
        plan = checked.tree.plan(header.format if header else None)
        found = estimate(plan, _input(header, size), self.reference_seconds)
        return Planned(checked=checked, plan=plan, header=header, bytes=size, estimate=found)

    async def _check_name(self, order: Order, request: Request) -> None:
        name = order.keeping.external_id
        if name is None:
            return
        filters = jobs.JobFilters(external_id=name)
        found, _ = await self.submissions.database.of(request.principal.tenant).read(
            jobs.list_page, limit=1, filters=filters
        )
        if found:
            detail = f"Your job {found[0].id} has this external id already."
            extra = {"job_id": str(found[0].id)}
            raise ExternalIdTaken(detail, pointer="#/external_id", value=name, extra=extra)


def _input(header: ImageHeader | None, size: int | None) -> Input | None:
    if header is None:
        return None
    return Input(format=header.format, size=(header.width, header.height), frames=header.frames_read, bytes=size)


def _place(error: PixToolsError, order: Order) -> str | None:
    """The pointer of an error; for an error in the image of a JSON body, it leads to the source of the image."""
    if order.canonical is None or error.pointer != FILE_POINTER:
        return error.pointer
    given = order.canonical.get("input")
    return FACTS_POINTER if isinstance(given, dict) and "facts" in given else DATA_POINTER


async def _header_of(given: DataSource) -> ImageHeader:
    return await read_header(BytesIO(given.content))


def _read_input(value: Any, pointer: str) -> Any:
    if not isinstance(value, dict) or "facts" not in value:
        return read_source(value, pointer)
    facts = value["facts"]
    if len(value) > 1 or not isinstance(facts, dict):
        raise InvalidSource('`input` is {"facts": {…}} and nothing else.', pointer=pointer)
    unknown = [name for name in facts if name not in FACTS]
    if unknown:
        detail = f"There is no fact {unknown[0][:64]!r}; there are {', '.join(FACTS)}."
        raise InvalidSource(detail, pointer=f"{FACTS_POINTER}/{escaped(unknown[0])}")
    known = [format_.name for format_ in FORMATS.values() if format_.is_input]
    if facts.get("format") not in known:
        detail = f"The format is one of {', '.join(known)}."
        raise InvalidSource(detail, pointer=f"{FACTS_POINTER}/format", value=short(facts.get("format")))
    width, height, size = (_number(facts, name) for name in FACTS[1:])
    return Facts(header=ImageHeader(str(facts["format"]), width, height), bytes=size)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise InvalidSource(
            f"{name} is a whole number of 1 or more.", pointer=f"{FACTS_POINTER}/{name}", value=short(value)
        )
    return value
