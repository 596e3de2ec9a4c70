"""The tenants of rows, and sessions that see only the rows of one tenant.

A session of a tenant adds the condition to every statement of the ORM, so that no query can lack it. Statements that
bypass the ORM (`insert_rows`, statements on tables) have to name the tenant themselves.
"""

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, mapped_column, with_loader_criteria

DEFAULT_TENANT = "default"  # owns everything until there are keys
#: the form of a name: that of a label in a domain name, which is valid everywhere
TENANT_NAME = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"


class Owned:
    """A table whose rows belong to tenants."""

    #: the server's default is for processes of an earlier version, which do not name one
    tenant: Mapped[str] = mapped_column(String(64), server_default=DEFAULT_TENANT)


def add_condition(state: ORMExecuteState, tenant: str) -> None:
    """Restrict a statement to the rows of one tenant, in every owned table that it names."""
    if state.is_orm_statement and not state.is_column_load and not state.is_insert:
        own = with_loader_criteria(Owned, lambda cls: cls.tenant == tenant, include_aliases=True)
        state.statement = state.statement.options(own)


def check_new_rows(session: Session, tenant: str | None) -> None:
    """Assign new rows to the session's tenant; in a session that sees all rows, each row has to name its tenant.

    Raises:
        ValueError: a row names another tenant, or none although it has to.
    """
    for row in session.new:
        if isinstance(row, Owned):
            given: Any = row.tenant
            owner = tenant if given is None else given
            if owner is None or owner != (tenant or owner):
                raise ValueError(f"a {type(row).__name__} of {given or 'no tenant'}")
            row.tenant = owner
