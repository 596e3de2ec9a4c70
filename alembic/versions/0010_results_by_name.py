"""Results are known by job and name; indexes that no statement uses any more go

The last of three. Dropping comes first, since it can be repeated; the rest is one transaction.
"""

from alembic import op
from app.migrations import online

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with online():
        _drop_indexes()
    if op.get_context().dialect.name == "sqlite":
        return
    op.execute(
        "ALTER TABLE job_results DROP CONSTRAINT pk_job_results, "
        "ADD CONSTRAINT pk_job_results PRIMARY KEY USING INDEX pk_job_results_by_name"
    )
    op.drop_constraint(op.f("uq_job_results_job_id_name"), "job_results", type_="unique")


def _drop_indexes() -> None:
    for name, table in {
        op.f("ix_jobs_status_id"): "jobs",
        op.f("ix_events_type_position"): "events",
        "ix_events_unnumbered": "events",
    }.items():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    raise NotImplementedError("Steps may have several results by now; restore a backup instead.")
