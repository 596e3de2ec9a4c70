"""Dead letters are listed and forgotten by their age

Runs before the old processes stop: the version that is running does not see an index.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_dead_letters_created_at"), "dead_letters", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_dead_letters_created_at"), "dead_letters")
