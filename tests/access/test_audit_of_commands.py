"""What the operator does on the command line is in the audit log, and mistakes of limits are explained."""

from pathlib import Path

import pytest
from sqlalchemy import select

from app.database import Database
from app.models import AuditEntry
from tests.support.commands import Run


def entries(folder: Path) -> list[tuple[str, str, str, dict[str, object]]]:
    database = Database(f"sqlite:///{folder}/pixtools.db")
    with database.session(read_only=True) as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    database.close()
    assert {row.actor for row in rows} == {"operator"}
    return [(row.tenant, row.action, row.subject, row.details) for row in rows]


def test_keys_and_tenants_are_in_the_log_that_the_tenant_or_the_operator_reads(pixtools: Run, tmp_path: Path) -> None:
    assert pixtools("tenants", "create", "acme").exit_code == 0
    key = pixtools("keys", "create", "--tenant", "acme", "--scope", "jobs:read").stdout
    key_id = key[key.index("pxt_") :].split("_")[1]
    shown = pixtools("tenants", "set", "acme", "--max-open-jobs", "5", "--max-storage-bytes", "default")
    assert "max_open_jobs        5\n" in shown.stdout
    assert "max_storage_bytes    1000000000000  (default)" in shown.stdout
    assert pixtools("tenants", "set", "acme").stdout == shown.stdout, "without limits those that hold are shown"
    assert pixtools("keys", "revoke", key_id).exit_code == 0
    assert entries(tmp_path) == [
        ("acme", "tenant.created", "acme", {}),
        ("acme", "key.created", key_id, {"scopes": ["jobs:read"], "description": ""}),
        ("acme", "tenant.changed", "acme", {"max_open_jobs": 5, "max_storage_bytes": None}),
        ("acme", "key.revoked", key_id, {}),
    ]
    assert pixtools("tenants", "delete", "acme", "--yes").exit_code == 0
    ((tenant, action, subject, details),) = entries(tmp_path)
    assert (tenant, action, subject, details["API keys"]) == ("default", "tenant.deleted", "acme", 1)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "-3", "many", "1.5", str(2**31)])
def test_what_is_no_limit_is_refused_in_a_line(pixtools: Run, tmp_path: Path, value: str) -> None:
    assert pixtools("tenants", "create", "acme").exit_code == 0
    ran = pixtools("tenants", "set", "acme", "--max-open-jobs", value)
    assert ran.exit_code == 1
    assert str(ran.exception).startswith("max_open_jobs is a whole number")
    assert len(str(ran.exception).splitlines()) == 1
    assert [action for _, action, _, _ in entries(tmp_path)] == ["tenant.created"]


def test_limits_of_nobody_are_refused(pixtools: Run) -> None:
    assert pixtools("tenants", "create", "acme").exit_code == 0
    ran = pixtools("tenants", "set", "absent", "--max-open-jobs", "5")
    assert (ran.exit_code, "There is no tenant 'absent'" in str(ran.exception)) == (1, True)
