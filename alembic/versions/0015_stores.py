"""Connections to buckets of the tenants' own, and where results are written to as well

A new table and columns without a default: nothing is rewritten, and the version that is running goes on.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stores",
        sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stores")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_stores_tenant_name")),
    )

    for table in ("jobs", "job_results"):
        op.add_column(table, sa.Column("output", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    for table in ("jobs", "job_results"):
        op.drop_column(table, "output")
    op.drop_table("stores")
