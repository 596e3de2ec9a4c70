"""Indexes by tenant, made while others write

The second of three. It can be repeated: an index that an interrupted run has left behind is made anew.
"""

import sqlalchemy as sa

from alembic import op
from app.migrations import online

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UNNUMBERED = sa.text("position IS NULL AND type <> 'webhook.test'")
IDENTIFIED = sa.text("external_id IS NOT NULL")


def upgrade() -> None:
    with online():
        _create_indexes()
    if op.get_context().dialect.name == "postgresql":
        with online():
            _create_index("pk_job_results_by_name", "job_results", "job_id", "name", unique=True)


def _create_indexes() -> None:
    _create_index(op.f("ix_jobs_tenant_id"), "jobs", "tenant", "id")
    _create_index(op.f("ix_jobs_tenant_status_id"), "jobs", "tenant", "status", "id")
    _create_index("ix_jobs_external_id", "jobs", "tenant", "external_id", where=IDENTIFIED)
    _create_index(op.f("ix_job_results_job_id_step_id"), "job_results", "job_id", "step_id")
    _create_index(op.f("ix_events_job_id"), "events", "job_id")
    _create_index(op.f("ix_events_tenant_position"), "events", "tenant", "position")
    _create_index(op.f("ix_events_tenant_type_position"), "events", "tenant", "type", "position")
    _create_index("ix_events_unlogged", "events", "id", where=UNNUMBERED)
    _create_index(op.f("ix_webhook_endpoints_tenant_id"), "webhook_endpoints", "tenant", "id")
    _create_index(op.f("ix_deliveries_tenant_id"), "deliveries", "tenant", "id")


def _create_index(
    name: str, table: str, *columns: str, where: sa.TextClause | None = None, unique: bool = False
) -> None:
    op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
    op.create_index(
        name,
        table,
        list(columns),
        unique=unique,
        postgresql_where=where,
        sqlite_where=where,
        postgresql_concurrently=True,
    )


def downgrade() -> None:
    raise NotImplementedError("Its columns' migration cannot be undone; restore a backup instead.")
