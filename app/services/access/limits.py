"""The limits of a tenant: requests per minute, open jobs, bytes and pixels per day, storage.

All except requests are checked in the transaction that accepts a job, by two statements. The first one locks the
tenant's row and adds the load of the job to that of the day. The second one counts the open jobs, including all that
were accepted before the lock was granted. A refusal rolls everything back, so nothing is counted twice or too early.
The end of a job writes nothing, so there is no counter that could drift.
"""

from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Date, Integer, bindparam, case, func, select, update
from sqlalchemy.orm import Session

from app.database import table_of
from app.errors import (
    DailyLimitReached,
    InvalidLimit,
    StorageLimitReached,
    TenantNotFound,
    TooManyOpenJobs,
)
from app.models import JOB_OPEN, Job, TenantRecord

RETRY_OPEN_SECONDS = 5  # `Retry-After`: by then some of the open jobs may have ended
#: largest values of the columns: integer, and bigint for all other limits
LARGEST = dict.fromkeys(("requests_per_minute", "max_open_jobs", "max_keep_seconds"), 2**31 - 1)
LARGEST_OTHER = 2**63 - 1

TENANTS, JOBS = table_of(TenantRecord), table_of(Job)
DAY = bindparam("day_", type_=Date)
BYTES, PIXELS = bindparam("bytes_", type_=BigInteger), bindparam("pixels_", type_=BigInteger)
IS_SAME_DAY = TENANTS.c.counted_on >= DAY  # `>`: a process whose clock is ahead has begun the next day
#: locks the row of a tenant until the end of the transaction
ADDED = (
    update(TENANTS)
    .where(TENANTS.c.name == bindparam("tenant_"), TENANTS.c.deleted_at.is_(None))
    .values(
        counted_on=case((IS_SAME_DAY, TENANTS.c.counted_on), else_=DAY),
        bytes_today=case((IS_SAME_DAY, TENANTS.c.bytes_today), else_=0) + BYTES,
        pixels_today=case((IS_SAME_DAY, TENANTS.c.pixels_today), else_=0) + PIXELS,
        stored_bytes=TENANTS.c.stored_bytes + BYTES,
    )
    .returning(TENANTS)
)
OF_TENANT = select(JOBS.c.id).where(
    JOBS.c.tenant == bindparam("tenant_"), JOBS.c.status.in_([status.value for status in JOB_OPEN])
)
#: number of open jobs, counted up to `most_`
OPEN = select(func.count()).select_from(OF_TENANT.limit(bindparam("most_", type_=Integer)).subquery())


@dataclass(frozen=True, kw_only=True)
class TenantLimits:
    """The limits of one tenant, or the defaults for tenants without their own."""

    requests_per_minute: int
    max_open_jobs: int
    max_bytes_per_day: int
    max_pixels_per_day: int
    max_storage_bytes: int
    #: longest time for which a job may be kept
    max_keep_seconds: int = 2**31 - 1

    def of(self, tenant: Any) -> "TenantLimits":
        """These limits, overridden by those in a row of `tenants`."""
        own = {name: value for name in NAMES if (value := getattr(tenant, name)) is not None}
        return replace(self, **own)


NAMES = tuple(field.name for field in fields(TenantLimits))


@dataclass(frozen=True, kw_only=True)
class Load:
    """The amounts that a job adds to its tenant's figures."""

    bytes: int = 0
    #: sum over all frames
    pixels: int = 0


def admit(session: Session, tenant: str, limits: TenantLimits, load: Load) -> None:
    """Check the limits for a new job of a tenant, which this transaction has already written.

    Call this late in the transaction: other transactions of this kind for the same tenant wait for its end.

    Args:
        session: one transaction.
        tenant: tenant of the job.
        limits: defaults for tenants without limits of their own.
        load: load of the job.

    Raises:
        TooManyOpenJobs: the tenant has too many unfinished jobs.
        DailyLimitReached: the job's bytes or pixels exceed the rest of the daily limit.
        StorageLimitReached: the job's bytes exceed the rest of the storage limit.
        TenantNotFound: the tenant is being erased.
    """
    row = _add(session, tenant, load)
    own = limits.of(row)
    most = own.max_open_jobs
    open_jobs = session.connection().execute(OPEN, {"tenant_": tenant, "most_": most + 1}).scalar_one()
    if open_jobs > most:
        raise TooManyOpenJobs(
            f"Your tenant has {most} unfinished jobs, which is its limit; wait until one of them has ended.",
            limit=most,
            value=open_jobs,
            retry_after=RETRY_OPEN_SECONDS,
            extra={"limit_name": "max_open_jobs"},
        )
    if load.bytes or load.pixels:
        _check_load(row, own, load)


def charge(session: Session, tenant: str, limits: TenantLimits, load: Load) -> None:
    """Count the input that an accepted job has fetched.

    Args:
        session: one transaction.
        tenant: tenant of the job.
        limits: defaults for tenants without limits of their own.
        load: load of the input.

    Raises:
        DailyLimitReached: the input's bytes or pixels exceed the rest of the daily limit.
        StorageLimitReached: the input's bytes exceed the rest of the storage limit.
        TenantNotFound: the tenant is being erased.
    """
    row = _add(session, tenant, load)
    _check_load(row, limits.of(row), load)


def _add(session: Session, tenant: str, load: Load) -> Any:
    """Add a load to the row of a tenant; returns the row, which is locked until the end of the transaction."""
    added = {"tenant_": tenant, "day_": _today(), "bytes_": load.bytes, "pixels_": load.pixels}
    row = session.connection().execute(ADDED, added).one_or_none()
    if row is None:
        raise TenantNotFound(f"The tenant {tenant!r} is being erased.")
    return row


def _check_load(row: Any, own: TenantLimits, load: Load) -> None:
    _check_day("bytes", row.bytes_today, own.max_bytes_per_day, load.bytes)
    _check_day("pixels", row.pixels_today, own.max_pixels_per_day, load.pixels)
    _check_storage(row.stored_bytes, own.max_storage_bytes)


def store(session: Session, tenant: str, limits: TenantLimits, bytes_: int) -> None:
    """Check the storage limit for something other than a job that this transaction stores for a tenant.

    Raises:
        StorageLimitReached: the bytes exceed the rest of the storage limit.
        TenantNotFound: the tenant is being erased.
    """
    stored = (
        update(TENANTS)
        .where(TENANTS.c.name == tenant, TENANTS.c.deleted_at.is_(None))
        .values(stored_bytes=TENANTS.c.stored_bytes + bytes_)
        .returning(TENANTS)
    )
    row = session.connection().execute(stored).one_or_none()
    if row is None:
        raise TenantNotFound(f"The tenant {tenant!r} is being erased.")
    _check_storage(row.stored_bytes, limits.of(row).max_storage_bytes)


def _today() -> date:
    return datetime.now(UTC).date()


def _check_day(what: str, used: int, most: int, added: int) -> None:
    if used <= most:
        return
    left, seconds = max(0, most - (used - added)), _until_midnight()
    name = f"{what}-per-day"
    unit = ';qu="content-bytes"' if what == "bytes" else ""
    raise DailyLimitReached(
        f"The upload has {added} {what}, and {left} of today's {most} are left; the day ends at midnight UTC.",
        limit=most,
        value=used,
        retry_after=seconds,
        extra={"limit_name": f"max_{what}_per_day"},
        headers={
            "RateLimit-Policy": f'"{name}";q={most}{unit};w=86400',
            "RateLimit": f'"{name}";r={left};t={seconds}',
        },
    )


def _until_midnight() -> int:
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return max(1, round((midnight - now).total_seconds()))


def _check_storage(stored: int, most: int) -> None:
    if stored > most:
        raise StorageLimitReached(
            f"Your uploads, results and assets would take {stored} bytes, and the limit is {most}; delete some, or let "
            "jobs expire.",
            limit=most,
            value=stored,
            extra={"limit_name": "max_storage_bytes"},
        )


def change(session: Session, tenant: TenantRecord, values: dict[str, int | None]) -> None:
    """Set a tenant's own limits.

    Args:
        session: one transaction.
        tenant: row of the tenant.
        values: new limits by the names of `TenantLimits`; None: back to the default.

    Raises:
        InvalidLimit: a limit is less than 1, or too large to be stored.
    """
    for name, value in values.items():
        largest = LARGEST.get(name, LARGEST_OTHER)
        if value is not None and not 1 <= value <= largest:
            detail = f"{name} is a whole number from 1 to {largest}, or `default`; {value} is none."
            raise InvalidLimit(detail, limit=1 if value < 1 else largest, value=value)
        setattr(tenant, name, value)
    session.flush()
