"""Keys of objects: made from ids alone, never from what a client sent."""

from uuid import UUID

ASSETS, JOBS = "assets/", "jobs/"
HEALTH = f"{JOBS}health"  # written to see that there is room; where rights are given by prefix, there are some here


def job_prefix(job_id: UUID) -> str:
    """The prefix of everything that belongs to a job."""
    return f"{JOBS}{job_id}/"


def input_key(job_id: UUID) -> str:
    return f"{job_prefix(job_id)}input"


def fetched_key(job_id: UUID, run: int, attempt: int) -> str:
    """A new one for each attempt: two fetches may give two files, and a slow attempt must not overwrite."""
    return f"{input_key(job_id)}-{run}.{attempt}"


def result_key(job_id: UUID, step_id: str, extension: str) -> str:
    """The same for every attempt: a step that runs twice overwrites its own object."""
    return f"{job_prefix(job_id)}results/{step_id}.{extension}"


def parts_prefix(job_id: UUID, step_id: str) -> str:
    """The prefix of the results of a step that gives several; what follows is what their names end in."""
    return f"{job_prefix(job_id)}results/{step_id}/"


def asset_key(tenant: str, sha256: str) -> str:
    """A file that trees of a tenant name; by its content, which a name may change and a key never does."""
    return f"{asset_prefix(tenant)}{sha256}"


def asset_prefix(tenant: str) -> str:
    return f"{ASSETS}{tenant}/"


def shared_asset_key(name: str) -> str:
    """Where an earlier version kept a file for all jobs, by its name."""
    return f"{ASSETS}{name}"


def intermediate_key(job_id: UUID, task_id: str) -> str:
    return f"{job_prefix(job_id)}intermediates/{task_id}"
