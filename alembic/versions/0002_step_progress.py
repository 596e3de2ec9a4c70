"""Steps show how far they are and what they found out

Runs before the old processes stop: the version that is running leaves both columns alone.
"""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_steps", sa.Column("progress", sa.Double(), nullable=False, server_default=sa.text("0")))
    op.add_column("job_steps", sa.Column("report", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("job_steps", "report")
    op.drop_column("job_steps", "progress")
