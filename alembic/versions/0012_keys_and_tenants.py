"""Keys and tenants; idempotency keys and dead letters have a tenant

The first of two: tables and columns. Runs before the old processes stop: what they write belongs to `default`.
PostgreSQL rewrites nothing.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OWNED = ("idempotency_keys", "dead_letters")


def upgrade() -> None:
    _create_tenants()
    _create_keys()
    for table in OWNED:
        op.add_column(table, sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"))


def _create_tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_open_jobs", sa.Integer(), nullable=True),
        sa.Column("max_bytes_per_day", sa.BigInteger(), nullable=True),
        sa.Column("max_pixels_per_day", sa.BigInteger(), nullable=True),
        sa.Column("max_storage_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.execute(tenants.insert().values(name="default", created_at=sa.func.current_timestamp()))


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_api_keys_tenant"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant", "id"])
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "api_keys", "value": 0}])  # ever made, of those that are gone as well


def downgrade() -> None:
    raise NotImplementedError("What one tenant owns would become everybody's: restore a backup instead.")
