"""Everything has a tenant, inputs may come from a source, a step may give several results, events are of any type

The first of three: columns. Runs before the old processes stop, which leave the new columns to their defaults.
PostgreSQL rewrites nothing; SQLite makes the tables anew.
"""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TENANTS = ("jobs", "events", "webhook_endpoints", "webhook_secrets", "deliveries")
INPUT_FACTS = {
    "input_format": sa.String(length=16),
    "input_width": sa.Integer(),
    "input_height": sa.Integer(),
    "input_frames": sa.Integer(),
    "input_bytes": sa.BigInteger(),
    "input_sha256": sa.String(length=64),
}
SIZES = ("width", "height")


def upgrade() -> None:
    for table in TENANTS:
        op.add_column(table, sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"))
    _add_columns()
    _create_tags()
    if op.get_context().dialect.name == "sqlite":
        _change_sqlite()
    else:
        _change_postgresql()


def _add_columns() -> None:
    op.add_column("jobs", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="5"))
    op.add_column("jobs", sa.Column("external_id", sa.String(length=255), nullable=True))
    op.add_column("jobs", sa.Column("tags", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("jobs", sa.Column("key_id", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("template", sa.String(length=160), nullable=True))
    op.add_column("jobs", sa.Column("input_source", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job_steps", sa.Column("cpu_seconds", sa.Float(), nullable=True))
    for name in ("pixels", "bytes_in", "bytes_out"):
        op.add_column("job_steps", sa.Column(name, sa.BigInteger(), nullable=True))


def _create_tags() -> None:
    op.create_table(
        "job_tags",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_tags_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_tags")),
    )
    columns = ["tenant", "name", "value", "job_id"]
    op.create_index(op.f("ix_job_tags_tenant_name_value_job_id"), "job_tags", columns)


def _change_sqlite() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for name, type_ in INPUT_FACTS.items():
            jobs.alter_column(name, existing_type=type_, nullable=True)
    with op.batch_alter_table("job_results") as results:
        for name in SIZES:
            results.alter_column(name, existing_type=sa.Integer(), nullable=True)
        results.drop_constraint(op.f("pk_job_results"), type_="primary")
        results.drop_constraint(op.f("uq_job_results_job_id_name"), type_="unique")
        results.create_primary_key(op.f("pk_job_results"), ["job_id", "name"])  # PostgreSQL's changes in the third
    with op.batch_alter_table("events") as events:
        events.drop_constraint(op.f("uq_events_job_id_run"), type_="unique")


def _change_postgresql() -> None:
    for name, type_ in INPUT_FACTS.items():
        op.alter_column("jobs", name, existing_type=type_, nullable=True)
    for name in SIZES:
        op.alter_column("job_results", name, existing_type=sa.Integer(), nullable=True)
    op.drop_constraint(op.f("uq_events_job_id_run"), "events", type_="unique")


def downgrade() -> None:
    raise NotImplementedError("Rows may have no size and several results a step by now: restore a backup instead.")
