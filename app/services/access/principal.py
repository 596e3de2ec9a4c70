"""The principal of a request: its tenant, its key and its scopes."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import MissingScope
from app.models import Scope
from app.tenancy import DEFAULT_TENANT


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The tenant whose data a request sees, and the scopes that it has."""

    tenant: str
    #: None: there has never been a key, and the request needs none
    key_id: str | None
    scopes: frozenset[Scope]
    #: this and the next ones are limits of the tenant; None: the default
    requests_per_minute: int | None = None
    max_keep_seconds: int | None = None
    #: True: jobs must name a template and may not send operations of their own
    templates_only: bool = False

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, *scopes: Scope) -> None:
        """Raise unless the principal has all of these scopes.

        Raises:
            MissingScope: a scope is missing; the error names it.
        """
        missing = next((scope for scope in scopes if not self.may(scope)), None)
        if missing is not None:
            raise MissingScope(
                f"The key needs the scope {missing.value!r} for this and has {_named(self.scopes)}; "
                "make one with that scope by `pixtools keys create --scope …` or POST /keys.",
                value=missing.value,
                key_id=self.key_id,
                tenant=self.tenant,
            )


def _named(scopes: Iterable[Scope]) -> str:
    return ", ".join(sorted(scope.value for scope in scopes)) or "none"


#: the principal of a request without a key, until the first key is made
ANYBODY = Principal(tenant=DEFAULT_TENANT, key_id=None, scopes=frozenset(Scope))
