"""What tenants have used today and stored; the audit log; usage by day

Columns with constant defaults, and new tables: nothing is rewritten, and the version that is running goes on. What jobs
that are there have used is added up from the log of events when the new one starts.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

REFUSE_ON_POSTGRESQL = (
    """
    CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is never changed';
    END $$
    """,
    """
    CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit()
    """,
)
REFUSE_ON_SQLITE = (
    """
    CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
    BEGIN
        SELECT RAISE(ABORT, 'the audit log is never changed');
    END
    """,
)
#: the secret that a migration before this one made for `webhook_url`, in plain; the first job that needs one makes
#: another, encrypted. Only where nothing has happened yet, so that no receiver can know it
FORGET_UNUSED = """
DELETE FROM webhook_secrets WHERE endpoint_id IS NULL
AND NOT EXISTS (SELECT 1 FROM jobs) AND NOT EXISTS (SELECT 1 FROM events) AND NOT EXISTS (SELECT 1 FROM api_keys)
AND NOT EXISTS (SELECT 1 FROM webhook_endpoints) AND secret LIKE 'whsec_%'
"""


def upgrade() -> None:
    _add_to_tenants()
    _create_audit()
    _create_usage()
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "usage", "value": 0}, {"name": "storage", "value": 0}])
    op.execute(FORGET_UNUSED)


def _add_to_tenants() -> None:
    op.add_column("tenants", sa.Column("counted_on", sa.Date(), nullable=True))
    for name in ("bytes_today", "pixels_today", "stored_bytes"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")))


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("once", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("once", name=op.f("uq_audit_once")),
    )
    op.create_index(op.f("ix_audit_tenant_id"), "audit", ["tenant", "id"])
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    for statement in REFUSE_ON_SQLITE if op.get_context().dialect.name == "sqlite" else REFUSE_ON_POSTGRESQL:
        op.execute(statement)


def _create_usage() -> None:
    op.create_table(
        "usage_days",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("template", sa.String(length=160), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("pixels", sa.BigInteger(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", "key_id", "template", name=op.f("pk_usage_days")),
    )


def downgrade() -> None:
    raise NotImplementedError("Its table of tenants cannot be undone; restore a backup instead.")
