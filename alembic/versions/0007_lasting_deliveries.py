"""Deliveries have an end, replays are rows, and the log is read by type

Runs before the old processes stop: the version that is running leaves the column and the table alone.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In the order in which the end of a job locks them
    op.create_index(op.f("ix_events_type_position"), "events", ["type", "position"])
    op.add_column("deliveries", sa.Column("expires_at", UtcDateTime(), nullable=True))
    leased = sa.text("lease_until IS NOT NULL")
    op.create_index("ix_deliveries_leased", "deliveries", ["lease_until"], postgresql_where=leased, sqlite_where=leased)
    _create_replays()


def _create_replays() -> None:
    op.create_table(
        "webhook_replays",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("missed_only", sa.Boolean(), nullable=False),
        sa.Column("after", sa.String(length=64), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("dispatched_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_replays_endpoint_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_replays")),
    )
    op.create_index(op.f("ix_webhook_replays_endpoint_id_id"), "webhook_replays", ["endpoint_id", "id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_webhook_replays_unfinished",
        "webhook_replays",
        ["dispatched_at"],
        postgresql_where=unfinished,
        sqlite_where=unfinished,
    )


def downgrade() -> None:
    op.drop_table("webhook_replays")
    op.drop_index(op.f("ix_events_type_position"), "events")
    op.drop_index("ix_deliveries_leased", "deliveries")
    op.drop_column("deliveries", "expires_at")
