"""Jobs as users keep them; templates; assets of each tenant

Columns with constant defaults, new tables, and indexes that are made while others write. What processes of before
accept lasts as long as they say: its end counts from the acceptance. It can be repeated: what an interrupted run has
left behind is made anew.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime
from app.migrations import online

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

IDENTIFIED = sa.text("external_id IS NOT NULL")
BY_EXTERNAL_ID, BY_FILENAME = "ix_jobs_external_id", "ix_jobs_filename"
#: nothing has written any so far; should there be two all the same, the newer one keeps it
FORGET_OLDER = """
    UPDATE jobs SET external_id = NULL WHERE external_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM jobs AS newer
        WHERE newer.tenant = jobs.tenant AND newer.external_id = jobs.external_id AND newer.id > jobs.id
    )
"""


def upgrade() -> None:
    with online():
        op.drop_index(BY_EXTERNAL_ID, "jobs", if_exists=True, postgresql_concurrently=True)
        op.drop_index(BY_FILENAME, "jobs", if_exists=True, postgresql_concurrently=True)
        op.execute(sa.text(FORGET_OLDER))
        op.create_index(
            BY_EXTERNAL_ID,
            "jobs",
            ["tenant", "external_id"],
            unique=True,
            postgresql_where=IDENTIFIED,
            sqlite_where=IDENTIFIED,
            postgresql_concurrently=True,
        )
        op.create_index(BY_FILENAME, "jobs", ["tenant", "input_filename", "id"], postgresql_concurrently=True)
    op.add_column("jobs", sa.Column("kept_seconds", sa.Integer(), nullable=True))
    op.add_column("tenants", sa.Column("max_keep_seconds", sa.Integer(), nullable=True))
    only = sa.Column("templates_only", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    op.add_column("tenants", only)
    _create_tombstones()
    _create_templates()
    _create_assets()


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default")


def _create_tombstones() -> None:
    op.create_table(
        "job_tombstones",
        _tenant(),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("expired_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_tombstones")),
    )
    op.create_index(op.f("ix_job_tombstones_expired_at"), "job_tombstones", ["expired_at"])


def _create_templates() -> None:
    op.create_table(
        "templates",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_templates")),
    )
    op.create_table(
        "template_versions",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("operations", sa.JSON(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("output", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_template_versions")),
    )


def _create_assets() -> None:
    op.create_table(
        "asset_objects",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name=op.f("pk_asset_objects")),
    )
    op.create_table(
        "assets",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("content_type", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_assets")),
        _of_object("assets"),
    )
    op.create_index(op.f("ix_assets_tenant_sha256"), "assets", ["tenant", "sha256"])
    op.create_table(
        "job_assets",
        _tenant(),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_assets")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name=op.f("fk_job_assets_job_id")),
        _of_object("job_assets"),
    )
    op.create_index(op.f("ix_job_assets_tenant_sha256"), "job_assets", ["tenant", "sha256"])


def _of_object(table: str) -> sa.ForeignKeyConstraint:
    columns = ["tenant", "sha256"]
    return sa.ForeignKeyConstraint(
        columns, [f"asset_objects.{name}" for name in columns], name=op.f(f"fk_{table}_tenant_sha256")
    )


def downgrade() -> None:
    raise NotImplementedError("Jobs may have names of their own by now; restore a backup instead.")
