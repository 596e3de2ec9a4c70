"""Keys of objects, made only from ids, never from values that a client has sent."""

from uuid import UUID

ASSETS, JOBS = "assets/", "jobs/"
HEALTH = f"{JOBS}health"  # written to check for room; below JOBS, since permissions may be given by prefix


def job_prefix(job_id: UUID) -> str:
    """The prefix of everything that belongs to a job."""
    return f"{JOBS}{job_id}/"


def input_key(job_id: UUID) -> str:
    return f"{job_prefix(job_id)}input"


def fetched_key(job_id: UUID, run: int, attempt: int) -> str:
    """The key of a fetched input. It is new for each attempt, since a slow attempt must not overwrite a newer file."""
    return f"{input_key(job_id)}-{run}.{attempt}"


def result_key(job_id: UUID, step_id: str, extension: str) -> str:
    """The key of a result, the same for all attempts: a step that runs twice overwrites its own object."""
    return f"{job_prefix(job_id)}results/{step_id}.{extension}"


def parts_prefix(job_id: UUID, step_id: str) -> str:
    """The prefix of keys for a step whose result has several files; the suffixes of their names follow."""
    return f"{job_prefix(job_id)}results/{step_id}/"


def asset_key(tenant: str, sha256: str) -> str:
    """The key of an asset's file, by its content: an asset may get new content, a key never does."""
    return f"{asset_prefix(tenant)}{sha256}"


def asset_prefix(tenant: str) -> str:
    return f"{ASSETS}{tenant}/"


def shared_asset_key(name: str) -> str:
    """The key under which an earlier version kept an asset for all tenants, by its name."""
    return f"{ASSETS}{name}"


def intermediate_key(job_id: UUID, task_id: str) -> str:
    return f"{job_prefix(job_id)}intermediates/{task_id}"
