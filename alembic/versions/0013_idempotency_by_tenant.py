"""An Idempotency-Key is known by its tenant, whichever of its API keys it came with

The second of two, made while others write. Processes of before name another caller, and are kept from a second job for
the same key by the index. It can be repeated: what an interrupted run has left behind is made anew.
"""

import sqlalchemy as sa

from alembic import op
from app.migrations import online

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INDEX = "uq_idempotency_keys_tenant_key"
#: callers with different credentials have become one tenant: the key of each that was used last stays
FORGET_OLDER = """
    DELETE FROM idempotency_keys WHERE EXISTS (
        SELECT 1 FROM idempotency_keys AS newer
        WHERE newer.tenant = idempotency_keys.tenant AND newer.key = idempotency_keys.key
        AND (newer.expires_at, newer.caller) > (idempotency_keys.expires_at, idempotency_keys.caller)
    )
"""


def upgrade() -> None:
    op.execute(sa.text(FORGET_OLDER))
    with online():
        op.drop_index(INDEX, "idempotency_keys", if_exists=True, postgresql_concurrently=True)
        op.create_index(INDEX, "idempotency_keys", ["tenant", "key"], unique=True, postgresql_concurrently=True)


def downgrade() -> None:
    raise NotImplementedError("Its table's migration cannot be undone; restore a backup instead.")
