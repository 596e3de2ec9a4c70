"""Templates: trees with placeholders for parameters. A version of a template never changes.

A tree is checked when it is stored, as far as that is possible without values, so that its author sees the mistakes and
not its users. Jobs store the expanded tree and `name@version`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, product
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.database import from_now, insertion, tenant_of
from app.errors import (
    BuiltInTemplate,
    InvalidOperations,
    InvalidOutput,
    InvalidParameter,
    InvalidTemplate,
    TemplateNotFound,
    TooManyTemplates,
    UnknownTemplate,
)
from app.models import Template, TemplateVersion
from app.services.intake.builtin_templates import BUILT_IN
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.intake.outputs import read_output
from app.services.intake.template_params import Mistake, candidates, check_schema, values_of
from app.services.intake.template_trees import Filling, param_at, places
from app.services.intake.validation import escaped, short

MAX_TEMPLATES = 1000  # per tenant
MAX_VERSIONS = 1000  # per template
MAX_REPORTED = 20  # mistakes in one answer
MAX_TRIALS = 64  # combinations of values that are tried until a tree is valid with one
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
LATEST = "latest"
REFERENCE = re.compile(rf"({NAME})(?:@([1-9][0-9]{{0,8}}|{LATEST}))?", re.ASCII)
MAX_REFERENCE = 128  # bytes; a longer text is not a reference
UNSTORABLE = "The template has half of a surrogate pair, or a number that JSON does not have."


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The definition of a version of a template."""

    operations: list[Any]
    #: JSON schema
    params: dict[str, Any]
    output: dict[str, Any] | None = None

    @property
    def canonical(self) -> str:
        """A text that is equal for equal definitions."""
        return json.dumps(self.__dict__, sort_keys=True, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Versioned:
    """A version of a template."""

    name: str
    version: int
    definition: Definition
    #: None: it comes with PixTools
    created_at: datetime | None = None

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Expanded:
    """A template filled with values."""

    operations: list[Any]
    output: dict[str, Any] | None
    #: parameters by pointers into `operations` and `output`
    places: Mapping[str, str]


def expand(definition: Definition, given: Mapping[str, Any]) -> Expanded:
    """Fill a template with values.

    Raises:
        InvalidParameter: values do not match; each has an entry.
    """
    values, mistakes = values_of(definition.params, given)
    if mistakes:
        raise InvalidParameter(mistakes[0]["detail"], extra={"errors": mistakes[:MAX_REPORTED]})
    return _filled(definition, values)


def _filled(definition: Definition, values: Mapping[str, Any]) -> Expanded:
    filling = Filling(values)
    operations = filling.fill(definition.operations, "#/operations")
    output = filling.fill(definition.output, "#/output")
    return Expanded(operations=operations, output=output, places=filling.places)


def check(definition: Definition, limits: TreeLimits) -> None:
    """Refuse a definition that no job could use, or that cannot be intended.

    Raises:
        InvalidTemplate: the definition has mistakes; each has an entry.
    """
    try:
        json.dumps(definition.__dict__, ensure_ascii=False, allow_nan=False).encode()
        mistakes = list(islice(_mistakes(definition, limits), MAX_REPORTED))
    except RecursionError:
        raise InvalidTemplate("The template is nested too deep.", pointer="#/operations") from None
    except ValueError:
        raise InvalidTemplate(UNSTORABLE, pointer="#/operations") from None
    if mistakes:
        raise InvalidTemplate(mistakes[0]["detail"], extra={"errors": mistakes})


def _mistakes(definition: Definition, limits: TreeLimits) -> Iterator[Mistake]:
    wrong = check_schema(definition.params)
    yield from wrong
    if wrong:  # the placeholders cannot be checked against a wrong schema
        return
    wrong = list(_check_places(definition))
    yield from wrong
    if not wrong:
        yield from _check_tree(definition, limits)


def _check_places(definition: Definition) -> Iterator[Mistake]:
    names = set(definition.params.get("properties", {}))
    found = [*places(definition.operations, "#/operations"), *places(definition.output, "#/output")]
    for place in found:
        if place.name is None:
            detail = 'A place for a parameter is {"param": "name"} and nothing else.'
            yield {"detail": detail, "pointer": place.pointer, "code": InvalidTemplate.code}
        elif place.name not in names:
            detail = f"There is no parameter {place.name[:64]!r} in `params`."
            pointer = f"{place.pointer}/param"
            yield {"detail": detail, "pointer": pointer, "code": InvalidTemplate.code, "value": place.name[:64]}
    for name in sorted(names - {place.name for place in found}):
        detail = f"The parameter {name!r} is used nowhere."
        yield {"detail": detail, "pointer": f"#/params/properties/{escaped(name)}", "code": InvalidTemplate.code}


def _check_tree(definition: Definition, limits: TreeLimits) -> list[Mistake]:
    """The mistakes of a tree with the first combination of values; none if any combination gives a valid tree."""
    properties = definition.params.get("properties", {})
    choices = islice(product(*map(candidates, properties.values())), MAX_TRIALS)
    first: list[Mistake] | None = None
    for choice in choices:
        mistakes = _tried(definition, dict(zip(properties, choice, strict=True)), limits)
        if not mistakes:
            return []
        first = mistakes if first is None else first
    return first or []


def _tried(definition: Definition, values: Mapping[str, Any], limits: TreeLimits) -> list[Mistake]:
    expanded = _filled(definition, values)
    mistakes: list[Mistake] = []
    try:
        parse_tree(json.dumps(expanded.operations), limits)
    except InvalidOperations as error:
        mistakes += error.extra["errors"]
    try:
        if expanded.output is not None:
            read_output(expanded.output, "#/output")
    except InvalidOutput as error:
        mistakes.append({"detail": error.message, "pointer": error.pointer, "code": error.code})
    return [mistake for mistake in mistakes if not _is_open(definition, param_at(expanded.places, mistake["pointer"]))]


def _is_open(definition: Definition, param: str | None) -> bool:
    """Whether a parameter accepts any text."""
    property_ = definition.params.get("properties", {}).get(param, {})
    return property_.get("type") == "string" and not property_.keys() & {"enum", "default"}


def parse_reference(text: str) -> tuple[str, int | None] | None:
    """The name and the version in `shop@2`; without a version, the latest is meant. None: the text is no reference."""
    parts = REFERENCE.fullmatch(text)
    if parts is None:
        return None
    return parts[1], None if parts[2] in {None, LATEST} else int(parts[2])


def get(session: Session, reference: str) -> Versioned:
    """A template by its name, or by name and version.

    Raises:
        TemplateNotFound: there is no such template.
    """
    named = parse_reference(reference)
    found = named and (_built_in(*named) or _stored(session, *named))
    if not found:
        raise TemplateNotFound(f"There is no template {reference[:64]!r}.", value=reference[:64])
    return found


def named_by_job(session: Session, reference: str) -> Versioned:
    """The template that a request names, by name or by name and version.

    Raises:
        UnknownTemplate: there is no such template.
    """
    try:
        return get(session, reference)
    except TemplateNotFound:
        detail = f"There is no template {reference[:64]!r}; GET /templates lists the templates."
        raise UnknownTemplate(detail, pointer="#/template", value=reference[:64]) from None


def _built_in(name: str, version: int | None) -> Versioned | None:
    if name not in BUILT_IN or version not in {None, 1}:
        return None
    operations, params = BUILT_IN[name]
    return Versioned(name=name, version=1, definition=Definition(operations=operations, params=params))


def _stored(session: Session, name: str, version: int | None) -> Versioned | None:
    query = select(TemplateVersion).where(TemplateVersion.name == name)
    if version is not None:
        query = query.where(TemplateVersion.version == version)
    row = session.scalar(query.order_by(TemplateVersion.version.desc()).limit(1))
    return _versioned(row) if row else None


def _versioned(row: TemplateVersion) -> Versioned:
    return Versioned(
        name=row.name,
        version=row.version,
        definition=Definition(operations=row.operations, params=row.params, output=row.output),
        created_at=row.created_at,
    )


def every(session: Session) -> list[Versioned]:
    """The latest version of each template, by name; built-in ones come first."""
    is_latest = (Template.name == TemplateVersion.name) & (Template.tenant == TemplateVersion.tenant)
    query = select(TemplateVersion).join(Template, is_latest & (Template.latest == TemplateVersion.version))
    own = session.scalars(query.order_by(TemplateVersion.name))
    return [found for name in BUILT_IN if (found := _built_in(name, None))] + [_versioned(row) for row in own]


def put(session: Session, name: str, definition: Definition) -> tuple[Versioned, bool]:
    """Store a checked template; returns the version, and whether it is new.

    Raises:
        InvalidTemplate: the name is not valid.
        BuiltInTemplate: a built-in template has this name.
        TooManyTemplates: the limit on templates, or on versions of one, is reached.
    """
    if not re.fullmatch(NAME, name, re.ASCII):
        detail = "A template's name is 1 to 64 letters, digits, `_`, `.` and `-`, beginning with a letter or digit."
        raise InvalidTemplate(detail, pointer="#/path/name", limit=64, value=short(name))
    _refuse_built_in(name)
    head = _locked(session, name)
    latest = None if head.deleted_at else _stored(session, name, None)
    if latest and latest.definition.canonical == definition.canonical:
        return latest, False
    _check_number(head.latest, MAX_VERSIONS, "versions of this template; store it under another name")
    head.latest += 1
    head.deleted_at = None
    values = {"operations": definition.operations, "params": definition.params, "output": definition.output}
    row = TemplateVersion(tenant=head.tenant, name=name, version=head.latest, created_at=from_now(), **values)
    session.add(row)
    session.flush()
    session.refresh(row)
    return _versioned(row), True


def _refuse_built_in(name: str) -> None:
    if name in BUILT_IN:
        raise BuiltInTemplate(f"The template {name!r} comes with PixTools; choose another name.", value=name)


def _check_number(number: int, limit: int, what: str) -> None:
    if number >= limit:
        raise TooManyTemplates(f"The limit is {limit} {what}.", limit=limit, value=number)


def _locked(session: Session, name: str) -> Template:
    """The locked row of a template, so that only one transaction at a time creates versions of it."""
    query = select(Template).where(Template.name == name).with_for_update().execution_options(populate_existing=True)
    head = session.scalar(query)
    if head is None or head.deleted_at:
        there = session.scalar(select(func.count()).select_from(Template).where(Template.deleted_at.is_(None))) or 0
        _check_number(there, MAX_TEMPLATES, "templates; delete some")
    if head is not None:
        return head
    row = insertion(session, Template).values(tenant=tenant_of(session), name=name, latest=0, deleted_at=None)
    session.connection().execute(row.on_conflict_do_nothing())
    return session.scalars(query).one()


def remove(session: Session, name: str) -> None:
    """Delete a template with all versions; their numbers are never used again.

    Raises:
        TemplateNotFound: there is no such template.
        BuiltInTemplate: a built-in template cannot be deleted.
    """
    _refuse_built_in(name)
    head = session.scalar(select(Template).where(Template.name == name).with_for_update())
    if head is None or head.deleted_at:
        raise TemplateNotFound(f"There is no template {name[:64]!r}.", value=name[:64])
    session.execute(delete(TemplateVersion).where(TemplateVersion.name == name))
    head.deleted_at = from_now()
