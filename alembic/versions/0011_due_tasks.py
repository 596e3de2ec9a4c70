"""Work waits for its turn in the database

Two tables, empty at first. The version that is running sends everything at once and leaves them alone.
"""

import sqlalchemy as sa

from alembic import op
from app.database import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "due_tasks",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("task", sa.String(length=128), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("small", sa.Boolean(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.Column("lane", sa.String(length=64), nullable=True),
        sa.Column("claimed_until", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_due_tasks_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "task", name=op.f("pk_due_tasks")),
    )
    op.create_table(
        "tenant_turns",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenant_turns")),
    )


def downgrade() -> None:
    op.drop_table("tenant_turns")
    op.drop_table("due_tasks")
