"""Jobs and messages know the request and the trace that they belong to

Runs before the old processes stop: the version that is running leaves both columns alone.
"""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("context", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("outbox", sa.Column("context", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("outbox", "context")
    op.drop_column("jobs", "context")
