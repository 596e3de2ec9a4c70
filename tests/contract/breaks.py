"""Breaks between two OpenAPI documents: what clients of the older one can no longer rely on. The rules follow oasdiff.

The server must still accept everything that clients send, and still answer everything that they read:

    operations   path-removed method-removed operation-renamed key-required
    parameters   parameter-removed parameter-added-required parameter-became-required
    bodies       body-became-required request-media-type-removed
    responses    response-status-removed response-media-type-removed response-header-removed
    sent values  request-type-changed request-value-removed request-limit-narrowed request-pattern-changed
                 request-format-changed request-default-changed request-closed request-property-removed
                 request-property-added-required request-property-became-required
    read values  response-type-changed response-value-removed response-limit-widened response-pattern-changed
                 response-format-changed response-property-removed response-property-optional

These are not breaks: anything new and optional; a new member, or a new value of an enumeration, in a response; an error
status that is added or removed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.contract.schema_breaks import Break, Direction, Document, Schema, Schemas

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
REFUSED = "clients that leave it out: they get a 422"
Parameters = Mapping[tuple[str, str], Schema]


def breaks_between(before: Document, after: Document) -> list[Break]:
    """All breaks, in the order of the older document. A break in a component is listed once, with its operations."""
    found: dict[tuple[str, str, str], Break] = {}
    for operation, each in _Operations(before, after).compare():
        known = found.setdefault((*each.key, each.what), each)
        if not each.where.startswith(operation) and operation not in known.operations:
            found[*each.key, each.what] = replace(known, operations=(*known.operations, operation))
    return list(found.values())


class _Operations:
    """Two documents, side by side."""

    def __init__(self, before: Document, after: Document) -> None:
        self._before, self._after = before, after
        self._schemas = Schemas(before, after)

    def compare(self) -> Iterator[tuple[str, Break]]:
        """Each break with the operation in which it was found."""
        now = {_template(path): item for path, item in self._after["paths"].items()}
        for path, item in self._before["paths"].items():
            for method in (each for each in METHODS if each in item):
                name = f"{method.upper()} {path}"
                for each in self._operation(name, method, item, now.get(_template(path))):
                    yield name, each

    def _operation(self, name: str, method: str, before: Schema, after: Schema | None) -> Iterator[Break]:
        if after is None:
            yield _operation_break("path-removed", name, "the path is gone", "clients that call it: 404")
            return
        if method not in after:
            yield _operation_break("method-removed", name, "the method is gone", "clients that call it: 405")
            return
        old, new = before[method], after[method]
        was, is_ = old.get("operationId"), new.get("operationId")
        if was != is_:
            hurts = "generated clients, whose methods are named after it"
            yield _operation_break("operation-renamed", name, f"`operationId` is `{is_}`, it was `{was}`", hurts)
        if _is_open(old, self._before) and not _is_open(new, self._after):
            yield _operation_break("key-required", name, "it needs a key now", "clients without a key: 401")
        yield from self._parameters(name, _parameters(before, old), _parameters(after, new))
        yield from self._body(name, old.get("requestBody"), new.get("requestBody"))
        yield from self._responses(name, old["responses"], new["responses"])

    def _parameters(self, name: str, before: Parameters, after: Parameters) -> Iterator[Break]:
        for key, new in after.items():
            where = _parameter(name, new)
            if not new.get("required"):
                continue
            if key not in before:
                yield _operation_break("parameter-added-required", where, "it is new and required", REFUSED)
            elif not before[key].get("required"):
                yield _operation_break("parameter-became-required", where, "it is required now", REFUSED)
        for key, old in before.items():
            where = _parameter(name, old)
            if key in after:
                was, is_ = old.get("schema", {}), after[key].get("schema", {})
                yield from self._schemas.compare(was, is_, where, Direction.REQUEST)
            else:
                hurts = "clients that send it: it is refused, or has no effect"
                yield _operation_break("parameter-removed", where, "it is gone", hurts)

    def _body(self, name: str, before: Schema | None, after: Schema | None) -> Iterator[Break]:
        where = f"{name}, body"
        if (after or {}).get("required") and not (before or {}).get("required"):
            yield _operation_break("body-became-required", where, "a body is required now", REFUSED)
        for media_type, old, new in _contents(before, after):
            if new is None:
                hurts = "clients that send it: they get a 415"
                what = f"{media_type} is no longer accepted"
                yield _operation_break("request-media-type-removed", where, what, hurts)
            else:
                yield from self._schemas.compare(old, new, f"{where} ({media_type})", Direction.REQUEST)

    def _responses(self, name: str, before: Schema, after: Schema) -> Iterator[Break]:
        for status, old in before.items():
            where = f"{name}, {status}"
            if status in after:
                yield from self._response(where, old, after[status])
            elif status[0] in "23":
                hurts = "clients that wait for this status"
                yield _operation_break("response-status-removed", where, "it is no longer answered", hurts)

    def _response(self, where: str, before: Schema, after: Schema) -> Iterator[Break]:
        for header in before.get("headers", {}):
            if header not in after.get("headers", {}):
                what, hurts = f"the header {header} is gone", "clients that read it"
                yield _operation_break("response-header-removed", where, what, hurts)
        for media_type, old, new in _contents(before, after):
            if new is None:
                what, hurts = f"{media_type} is no longer answered", "clients that ask for it or parse it"
                yield _operation_break("response-media-type-removed", where, what, hurts)
            else:
                yield from self._schemas.compare(old, new, f"{where} ({media_type})", Direction.RESPONSE)


def _operation_break(rule: str, where: str, what: str, hurts: str) -> Break:
    return Break(rule=rule, where=where, what=what, hurts=hurts)


def _template(path: str) -> str:
    """A path without the names of its parameters, which are not part of a request."""
    return re.sub(r"\{\w+\}", "{}", path)


def _is_open(operation: Schema, document: Document) -> bool:
    """Whether a request without a key is accepted."""
    needs = operation.get("security", document.get("security", []))
    return not needs or {} in needs


def _parameters(item: Schema, operation: Schema) -> dict[tuple[str, str], Schema]:
    """Parameters by place and name; those of the path by number, since their names are not part of a request."""
    found: dict[tuple[str, str], Schema] = {}
    for parameter in (*item.get("parameters", ()), *operation.get("parameters", ())):
        place, name = parameter["in"], parameter["name"]
        in_path = sum(known == "path" for known, _ in found)
        found[place, str(in_path) if place == "path" else name.lower() if place == "header" else name] = parameter
    return found


def _parameter(operation: str, parameter: Schema) -> str:
    return f"{operation}, {parameter['in']} parameter {parameter['name']}"


def _contents(before: Schema | None, after: Schema | None) -> Iterator[tuple[str, Schema, Schema | None]]:
    """Each media type with its old and its new schema; None: it is gone."""
    now = (after or {}).get("content", {})
    for media_type, content in (before or {}).get("content", {}).items():
        new = now[media_type].get("schema", {}) if media_type in now else None
        yield media_type, content.get("schema", {}), new
