"""The operation tree of a request, which is sent with it or made from a template."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.database import TenantDatabase
from app.errors import InvalidOperations, InvalidParameter, PixToolsError, TemplatesOnly
from app.services.intake import strict_json, templates
from app.services.intake.strict_json import NotStrict
from app.services.intake.template_trees import param_at
from app.services.intake.validation import short

#: the parts of a request that a template supplies
PLACES = ("#/operations", "#/output")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The tree to run, and its origin."""

    #: the operation tree as JSON text
    operations: str
    #: name and version
    template: str | None = None
    output: dict[str, Any] | None = None
    #: parameters by pointers into the tree
    places: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def pointing(self) -> Iterator[None]:
        """Make mistakes in an expanded template point to what the client sent."""
        try:
            yield
        except PixToolsError as error:
            if self.template is not None:
                self._point(error)
            raise

    def _point(self, error: PixToolsError) -> None:
        for mistake in error.extra.get("errors", []):
            place = mistake["pointer"]
            mistake["pointer"] = self._sent(place)
            mistake.setdefault("place", place)
        if error.pointer and error.pointer.startswith(PLACES):
            error.extra.setdefault("place", error.pointer)
            error.pointer = self._sent(error.pointer)

    def _sent(self, pointer: str) -> str:
        if not pointer.startswith(PLACES):
            return pointer
        within = {name for place, name in self.places.items() if place.startswith(f"{pointer}/")}
        param = param_at(self.places, pointer) or (within.pop() if len(within) == 1 else None)
        return f"#/params/{param}" if param else "#/template"


def read_params(text: str | None) -> dict[str, Any] | None:
    """Parse the field `params` of a form; an empty one counts as missing.

    Raises:
        InvalidParameter: the field is not a JSON object.
    """
    if not text:
        return None
    try:
        params = strict_json.read(text)
    except NotStrict as error:
        detail = f"`params` is not valid JSON{error.args[0]}."
        raise InvalidParameter(detail, pointer="#/params", value=short(text)) from None
    return checked_params(params)


def checked_params(params: Any, pointer: str = "#/params") -> dict[str, Any]:
    """Check that the values of parameters are an object.

    Raises:
        InvalidParameter: the value is not an object.
    """
    if not isinstance(params, dict):
        detail = '`params` must be an object, as {"width": 320}.'
        raise InvalidParameter(detail, pointer=pointer, value=short(params))
    return params


async def choose(
    rows: TenantDatabase,
    *,
    operations: str | None,
    template: str | None,
    params: Mapping[str, Any] | None,
    templates_only: bool,
) -> Chosen:
    """Find the tree of a request.

    Args:
        rows: the tenant's database.
        operations: a tree as text.
        template: a reference to a template, instead of a tree.
        params: values for the template.
        templates_only: whether the tenant may use only templates.

    Raises:
        InvalidOperations: the request has neither a tree nor a template.
        InvalidParameter: the request has both, or the values do not match.
        UnknownTemplate: there is no such template.
        TemplatesOnly: the tenant may not send trees.
    """
    if template is None:
        return _own(operations, params, templates_only=templates_only)
    if operations is not None:
        detail = "A request has `operations` or a `template`, not both."
        raise InvalidParameter(detail, pointer="#/template", value=short(template))
    found = await rows.read(templates.named_by_job, template)
    expanded = templates.expand(found.definition, params or {})
    return Chosen(
        operations=json.dumps(expanded.operations, ensure_ascii=False, separators=(",", ":")),
        template=found.reference,
        output=expanded.output,
        places=expanded.places,
    )


def _own(operations: str | None, params: Mapping[str, Any] | None, *, templates_only: bool) -> Chosen:
    if templates_only:
        raise TemplatesOnly(pointer="#/template" if operations is None else "#/operations")
    if params is not None:
        raise InvalidParameter("`params` are for a `template`.", pointer="#/params")
    if operations is None:
        missing = {"detail": "The field `operations` is missing, or a `template`.", "pointer": "#/operations"}
        raise InvalidOperations([missing], code="missing_field")
    return Chosen(operations=operations)
