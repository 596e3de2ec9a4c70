"""Breaks between two JSON schemas of a value.

One side sends the value and the other one takes it. In a request the client sends by the old schema and the server
takes by the new one; in a response the server sends by the new one and the client takes by the old one. Everything that
may be sent must be taken.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Schema = Mapping[str, Any]
Document = Mapping[str, Any]

UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
TEXTS = ("pattern", "format")
UNIONS = ("anyOf", "oneOf")
COMPONENT = "$component"  # our own keyword: the name of the component that a schema comes from
#: keywords with the schema of a part, and the name of that part in messages
INNER = {"items": "[]", "additionalProperties": ".*", "propertyNames": " (names)", "contentSchema": " as JSON"}
SHOWN = 3  # operations that a message names; it counts the others


class Direction(Enum):
    """Which way a value goes."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, kw_only=True)
class Break:
    """One thing that clients can no longer rely on."""

    rule: str
    #: an operation and its part, or a component and the path in it: `ResultView.width`
    where: str
    what: str
    #: which clients it breaks, and how
    hurts: str
    #: operations that use the component
    operations: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The rule and the place, which identify an accepted break."""
        return self.rule, self.where

    def __str__(self) -> str:
        named = ", ".join(self.operations[:SHOWN])
        more = f" and {len(self.operations) - SHOWN} more" if len(self.operations) > SHOWN else ""
        used = f" (in {named}{more})" if named else ""
        return f"{self.where}{used}: {self.what}. Hurts {self.hurts}. [{self.rule}]"


@dataclass(frozen=True)
class _Pair:
    """Two schemas without references and unions, and their place."""

    before: Schema
    after: Schema
    where: str
    direction: Direction

    @property
    def sent(self) -> Schema:
        return self.before if self.direction is Direction.REQUEST else self.after

    @property
    def taken(self) -> Schema:
        return self.after if self.direction is Direction.REQUEST else self.before

    @property
    def is_request(self) -> bool:
        return self.direction is Direction.REQUEST

    def broken(self, rule: str, what: str, request: str, response: str, *, place: str = "") -> Break:
        """A break of a rule for both directions; the clients that it hurts differ."""
        hurts = request if self.is_request else response
        return Break(rule=f"{self.direction.value}-{rule}", where=self.where + place, what=what, hurts=hurts)


class Schemas:
    """The schemas of two documents."""

    def __init__(self, before: Document, after: Document) -> None:
        self._before, self._after = (each.get("components", {}).get("schemas", {}) for each in (before, after))
        self._requested = set(_requested(after, self._after))
        # an empty list while a component is being compared, since a component may refer to itself
        self._known: dict[tuple[str, str, Direction], list[Break]] = {}

    def compare(self, before: Schema, after: Schema, where: str, direction: Direction) -> Iterator[Break]:
        """The breaks between two schemas. Those inside a component are reported at the component's own name."""
        if not before and not after:
            return
        if direction is Direction.REQUEST:
            yield from _default(before, after, where)
        old, new = _reference(before), _reference(after)
        if not (old and new):
            yield from self._alternatives(before, after, where, direction)
            return
        key = (old, new, direction)
        if key not in self._known:
            self._known[key] = []
            self._known[key] = list(self._alternatives(before, after, old, direction))
        yield from self._known[key]

    def _alternatives(self, before: Schema, after: Schema, where: str, direction: Direction) -> Iterator[Break]:
        """Everything that one side may send must fit an alternative of the other side."""
        old, new = _expanded(before, self._before), _expanded(after, self._after)
        sent, taken = (old, new) if direction is Direction.REQUEST else (new, old)
        fitting = [_fitting(one, taken) for one in sent]
        if not any(fitting):
            yield _not_taken(_Pair(sent[0], sent[0], where, direction), _kinds(old), _kinds(new))
            return
        named = len([each for each in sent if each.get("type") != "null"]) > 1
        for one, ways in zip(sent, fitting, strict=True):
            place = f"{where} ({_name(one)})" if named else where
            if ways:
                ordered = [(one, way) if direction is Direction.REQUEST else (way, one) for way in ways]
                pairs = [_Pair(was, is_, was.get(COMPONENT, place), direction) for was, is_ in ordered]
                yield from min((list(self._plain(pair)) for pair in pairs), key=len)
            elif direction is Direction.REQUEST or not self._is_echo(one, where):
                yield _not_taken(_Pair(one, one, place, direction), _kinds(old), _kinds(new))

    def _is_echo(self, new: Schema, where: str) -> bool:
        """Whether only clients that send a value get it back, such as a new operation in a tree."""
        return where in self._requested and new.get("title") in self._after.keys() - self._before.keys()

    def _plain(self, pair: _Pair) -> Iterator[Break]:
        for rule in (_values, _limits, _texts, _gone, _required, _closed):
            yield from rule(pair)
        yield from self._inner(pair)

    def _inner(self, pair: _Pair) -> Iterator[Break]:
        """Breaks in members, items and other parts of a value."""
        old, new = pair.before.get("properties", {}), pair.after.get("properties", {})
        for name in old:
            if name in new:
                yield from self.compare(old[name], new[name], f"{pair.where}.{name}", pair.direction)
        for keyword, place in INNER.items():
            was, is_ = (_inner(each, keyword) for each in (pair.before, pair.after))
            if was is not False and is_ is not False:
                yield from self.compare(was, is_, f"{pair.where}{place}", pair.direction)


# -- one alternative ---------------------------------------------------------------------------------------------------


def _inner(schema: Schema, keyword: str) -> Any:
    """The schema of a part; False: the part is not allowed."""
    found = schema.get(keyword, True)
    return {} if found is True else found


def _reference(schema: Schema) -> str | None:
    """The name of the component that a schema refers to."""
    reference = schema.get("$ref")
    return reference.rpartition("/")[2] if reference else None


def _requested(document: Document, components: Mapping[str, Schema]) -> Iterator[str]:
    """The names of components that occur in requests."""
    paths = document.get("paths", {}).values()
    bodies = [each["requestBody"] for path in paths for each in path.values() if "requestBody" in each]
    found: set[str] = set()
    open_ = [name for body in bodies for name in _named(body)]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            yield name
            open_ += _named(components.get(name, {}))


def _named(value: Any) -> Iterator[str]:
    """The names of components that a value refers to."""
    if isinstance(value, dict):
        name = _reference(value)
        if name:
            yield name
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _named(each)


def _expanded(schema: Schema, components: Mapping[str, Schema]) -> list[Schema]:
    """The alternatives of a schema, without references, unions and lists of types."""
    name = _reference(schema)
    if name:
        known = {"title": name, COMPONENT: name, **components[name]}
        return _expanded(_both(known, _without(schema, "$ref", "default")), components)
    for union in UNIONS:
        if union in schema:
            base = _without(schema, union, "default")
            return [each for variant in schema[union] for each in _expanded(_variant(base, variant), components)]
    if "allOf" in schema:
        joined: Schema = _without(schema, "allOf")
        for part in schema["allOf"]:
            [only] = _expanded(part, components)
            joined = _both(joined, only)
        return [joined]
    types = schema.get("type")
    if isinstance(types, list):
        return [{"type": "null"} if each == "null" else {**schema, "type": each} for each in types]
    return [schema]


def _without(schema: Schema, *keywords: str) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword not in keywords}


def _variant(base: Schema, variant: Schema) -> Schema:
    """One alternative of a union, with the keywords next to the union; a component has all of its own."""
    return variant if "$ref" in variant else _both(base, variant)


def _both(base: Schema, more: Schema) -> dict[str, Any]:
    """Both schemas joined."""
    joined = {**base, **more}
    if "properties" in base and "properties" in more:
        joined["properties"] = {**base["properties"], **more["properties"]}
    if "required" in base and "required" in more:
        joined["required"] = [*base["required"], *more["required"]]
    return joined


def _tags(schema: Schema) -> dict[str, str]:
    """The members that show the kind of an object: those with only one possible value."""
    values = {name: _enumeration(each) for name, each in schema.get("properties", {}).items()}
    return {name: json.dumps(each) for name, each in values.items() if each and len(each) == 1}


def _fitting(sent: Schema, taken: list[Schema]) -> list[Schema]:
    """The alternatives that a value may match: by type, by the members that show its kind, and by name if one fits."""
    able = [each for each in taken if _may_be(sent, each)]
    return [each for each in able if each.get("title") == sent.get("title")] or able


def _may_be(sent: Schema, taken: Schema) -> bool:
    given, wanted = sent.get("type"), taken.get("type")
    if wanted not in {None, given} and (given, wanted) != ("integer", "number"):
        return False
    mine, other = _tags(sent), _tags(taken)
    return all(mine[name] == other[name] for name in mine.keys() & other.keys())


def _name(schema: Schema) -> str:
    """The name of an alternative, for people."""
    if "title" in schema and "properties" in schema:
        return str(schema["title"])
    return ", ".join(_tags(schema).values()) or _kind(schema)


def _kind(schema: Schema) -> str:
    return schema.get("type") or ("a few values" if _enumeration(schema) else "any value")


def _kinds(schemas: Iterable[Schema]) -> str:
    return " or ".join(dict.fromkeys(_kind(each) for each in schemas))


def _not_taken(pair: _Pair, was: str, is_: str) -> Break:
    name = _name(pair.sent)
    what = f"it is {is_}, it was {was}" if was != is_ else f"{name} means something else now"
    return pair.broken("type-changed", what, f"clients that send {name}", f"clients that do not expect {name}")


# -- rules -------------------------------------------------------------------------------------------------------------


def _enumeration(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _values(pair: _Pair) -> Iterator[Break]:
    was, is_ = _enumeration(pair.before), _enumeration(pair.after)
    if is_ is not None and (was is not None or pair.is_request):
        gone = [json.dumps(value) for value in was or () if value not in is_]
        listed = ", ".join(gone)
        if gone:
            what = f"{listed} {'are' if len(gone) > 1 else 'is'} no longer allowed"
            yield pair.broken("value-removed", what, f"clients that send {listed}", f"clients that wait for {listed}")
        elif was is None:
            what = f"only {json.dumps(is_)} are allowed now"
            yield pair.broken("value-removed", what, "clients that send anything else", "")


def _default(before: Schema, after: Schema, where: str) -> Iterator[Break]:
    if "default" not in before or ("default" in after and before["default"] == after["default"]):
        return
    new = json.dumps(after["default"]) if "default" in after else "gone"
    what = f"the default is {new}, it was {json.dumps(before['default'])}"
    hurts = "clients that leave it out: that means something else now"
    yield Break(rule="request-default-changed", where=where, what=what, hurts=hurts)


def _limits(pair: _Pair) -> Iterator[Break]:
    rule = "limit-narrowed" if pair.is_request else "limit-widened"
    for keyword in (*UPPER, *LOWER):
        limit, reached = pair.taken.get(keyword), pair.sent.get(keyword)
        beyond = "more" if keyword in UPPER else "less"
        if limit is None or (reached is not None and (reached <= limit if beyond == "more" else reached >= limit)):
            continue
        new, old = pair.after.get(keyword, "none"), pair.before.get(keyword, "none")
        yield pair.broken(
            rule,
            f"`{keyword}` is {new}, it was {old}",
            f"clients that send {beyond} than {limit}",
            f"clients that count on no {beyond} than {limit}",
        )


def _texts(pair: _Pair) -> Iterator[Break]:
    for keyword in TEXTS:
        if pair.taken.get(keyword) is None or pair.taken[keyword] == pair.sent.get(keyword):
            continue
        new, old = (each.get(keyword, "none") for each in (pair.after, pair.before))
        yield pair.broken(
            f"{keyword}-changed",
            f"the {keyword} is {new}, it was {old}",
            "clients that send texts which do not match it",
            "clients that rely on the old one",
        )


def _gone(pair: _Pair) -> Iterator[Break]:
    for name in pair.before.get("properties", {}):
        if name not in pair.after.get("properties", {}):
            request = "clients that send it: it is refused, or has no effect"
            yield pair.broken("property-removed", "it is gone", request, "clients that read it", place=f".{name}")


def _required(pair: _Pair) -> Iterator[Break]:
    for name in dict.fromkeys(pair.taken.get("required", ())):
        if name in pair.sent.get("required", ()):
            continue
        if pair.is_request:
            is_new = name not in pair.before.get("properties", {})
            rule, what = ("added", "it is new and required") if is_new else ("became", "it is required now")
            hurts = "clients that leave it out: they get a 422"
            yield pair.broken(f"property-{rule}-required", what, hurts, "", place=f".{name}")
        elif name in pair.after.get("properties", {}):
            hurts = "clients that read it without checking that it is there"
            yield pair.broken("property-optional", "it may be missing", "", hurts, place=f".{name}")


def _closed(pair: _Pair) -> Iterator[Break]:
    is_object = pair.is_request and pair.before.get("type") == "object"
    closed = [each.get("additionalProperties") is False for each in (pair.before, pair.after)]
    if is_object and closed == [False, True]:
        what, hurts = "unknown members are refused", "clients that send some: they get a 422"
        yield Break(rule="request-closed", where=pair.where, what=what, hurts=hurts)
