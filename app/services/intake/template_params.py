"""Parameters of templates: their definitions in a subset of JSON Schema, and their values.

The only keywords are `type`, `enum`, `minimum`, `maximum`, `maxLength`, `default` and `required`, and all of them are
checked. There is no `pattern`, since some patterns take minutes to match.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from app.services.intake.validation import escaped, explain, limit_of, short

MAX_PARAMS = 32
MAX_ENUM = 64  # values
MAX_TEXT = 4096  # characters of a value, if the schema does not limit them
PARAM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}
NUMBERS, TEXTS = frozenset({"integer", "number"}), frozenset({"string"})
#: keywords of a parameter, and the types to which they apply
KEYWORDS: dict[str, frozenset[str]] = {
    "type": frozenset(TYPES),
    "enum": frozenset(TYPES),
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "maxLength": TEXTS,
    "default": frozenset(TYPES),
}
OF_OBJECT = ("type", "properties", "required")
Mistake = dict[str, Any]


def _mistake(detail: str, pointer: str, **more: Any) -> Mistake:
    return {"detail": detail, "pointer": pointer, "code": "invalid_template", **more}


def check_schema(schema: Mapping[str, Any]) -> list[Mistake]:
    """The mistakes in a schema of parameters; an empty schema defines no parameters."""
    mistakes = [
        _mistake(
            f"There is no keyword {key[:64]!r} here; there are {', '.join(OF_OBJECT)}.", f"#/params/{escaped(key)}"
        )
        for key in schema
        if key not in OF_OBJECT
    ]
    if schema.get("type", "object") != "object":
        mistakes.append(_mistake("The type of all parameters together is `object`.", "#/params/type"))
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return [*mistakes, _mistake("`properties` must be an object.", "#/params/properties")]
    if len(properties) > MAX_PARAMS:
        detail = f"There are {len(properties)} parameters, the limit is {MAX_PARAMS}."
        return [*mistakes, _mistake(detail, "#/params/properties", limit=MAX_PARAMS, value=len(properties))]
    for name, property_ in properties.items():
        mistakes += _check_property(name, property_, f"#/params/properties/{escaped(name)}")
    return mistakes + list(_check_required(schema.get("required", []), properties))


def _check_required(required: Any, properties: Mapping[str, Any]) -> Iterator[Mistake]:
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield _mistake("`required` must be an array of names.", "#/params/required")
        return
    for index, name in enumerate(required):
        if name not in properties:
            yield _mistake(f"There is no parameter {name[:64]!r}.", f"#/params/required/{index}", value=name[:64])
        if name in required[:index]:
            yield _mistake(f"{name[:64]!r} is named twice.", f"#/params/required/{index}", value=name[:64])


def _check_property(name: str, property_: Any, pointer: str) -> list[Mistake]:
    if not PARAM_NAME.fullmatch(name):
        detail = "A parameter's name is a letter or `_`, and up to 63 letters, digits and `_`."
        return [_mistake(detail, pointer, value=name[:64])]
    if not isinstance(property_, dict):
        return [_mistake(f"The schema of {name!r} must be an object.", pointer)]
    kind = property_.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        return [
            _mistake(f"The type of {name!r} must be one of {', '.join(TYPES)}.", f"{pointer}/type", value=short(kind))
        ]
    mistakes = []
    for key, value in property_.items():
        where = f"{pointer}/{escaped(key)}"
        if key not in KEYWORDS:
            detail = f"There is no keyword {key[:64]!r} here; there are {', '.join(KEYWORDS)}."
            mistakes.append(_mistake(detail, where, value=key[:64]))
        elif kind not in KEYWORDS[key]:
            mistakes.append(_mistake(f"`{key}` is not for the type {kind}.", where, value=short(value)))
        elif (said := _check_keyword(kind, key, value)) is not None:
            mistakes.append(_mistake(f"`{key}` {said}.", where, value=short(value)))
    return mistakes or list(_check_together(property_, pointer))


def _check_keyword(kind: str, key: str, value: Any) -> str | None:
    """The mistake in the value of a keyword, as the end of a sentence."""
    if key in {"minimum", "maximum", "default"} and not _is(kind, value):
        return f"must be of the type {kind}"
    if key == "maxLength" and not (_is("integer", value) and value >= 1):
        return "must be a whole number of 1 or more"
    if key == "enum":
        right = isinstance(value, list) and 1 <= len(value) <= MAX_ENUM and all(_is(kind, each) for each in value)
        return None if right else f"must be an array of 1 to {MAX_ENUM} values of the type {kind}"
    return None


def _is(kind: str, value: Any) -> bool:
    try:
        _plain(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=len(TYPES))
def _plain(kind: str) -> TypeAdapter[Any]:
    return _adapter(json.dumps({"type": kind}))


def _check_together(property_: Mapping[str, Any], pointer: str) -> Iterator[Mistake]:
    least, most = property_.get("minimum"), property_.get("maximum")
    if least is not None and most is not None and least > most:
        yield _mistake("The minimum is above the maximum.", f"{pointer}/minimum", limit=most, value=least)
        return
    for index, value in enumerate(property_.get("enum", [])):
        if said := _refusal({**property_, "enum": [value]}, value):
            yield _mistake(f"The value {short(value)!r} {said}.", f"{pointer}/enum/{index}", value=short(value))
    if "default" in property_ and (said := _refusal(property_, property_["default"])):
        yield _mistake(f"The default {said}.", f"{pointer}/default", value=short(property_["default"]))


def _refusal(property_: Mapping[str, Any], value: Any) -> str | None:
    """The reason why a value does not match, as the end of a sentence."""
    try:
        adapter_of(property_).validate_python(value)
    except ValidationError as error:
        said = explain({**error.errors(include_url=False)[0], "loc": ("it",)})
        return said.rstrip(".").removeprefix("it: ").removeprefix("it ")
    return None


def adapter_of(property_: Mapping[str, Any]) -> TypeAdapter[Any]:
    """The adapter that checks the values of one parameter."""
    return _adapter(json.dumps(property_))


@lru_cache(maxsize=256)
def _adapter(text: str) -> TypeAdapter[Any]:
    schema = json.loads(text)
    kind = schema["type"]
    bounds: dict[str, Any] = {}
    if kind in NUMBERS:
        bounds = {"ge": schema.get("minimum"), "le": schema.get("maximum")}
        bounds |= {"allow_inf_nan": False} if kind == "number" else {}
    elif kind in TEXTS:
        bounds = {"max_length": schema.get("maxLength", MAX_TEXT)}
    annotated: Any = Annotated[TYPES[kind], Field(strict=True, **bounds)]
    if "enum" in schema:
        annotated = Annotated[annotated, AfterValidator(_one_of(schema["enum"]))]
    return TypeAdapter(annotated)


def _one_of(values: list[Any]) -> Any:
    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"must be one of {', '.join(json.dumps(each) for each in values)}"[:500])
        return value

    return check


def values_of(schema: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """The values of all parameters that have one, as given, and the mistakes in them."""
    properties = schema.get("properties", {})
    known = ", ".join(properties) or "none"
    mistakes = [
        {
            "detail": f"There is no parameter {name[:64]!r}; there are {known}.",
            "pointer": f"#/params/{escaped(name)}",
            "code": "invalid_parameter",
            "value": name[:64],
        }
        for name in given
        if name not in properties
    ]
    values: dict[str, Any] = {}
    for name, property_ in properties.items():
        if name in given:
            values[name] = given[name]
            mistakes += _check_value(name, property_, given[name])
        elif "default" in property_:
            values[name] = property_["default"]
        elif name in schema.get("required", []):
            detail = f"The parameter {name!r} is missing."
            mistakes.append({"detail": detail, "pointer": f"#/params/{name}", "code": "invalid_parameter"})
    return values, mistakes


def _check_value(name: str, property_: Mapping[str, Any], value: Any) -> Iterator[Mistake]:
    try:
        adapter_of(property_).validate_python(value)
    except ValidationError as error:
        found: dict[str, Any] = {**error.errors(include_url=False)[0], "loc": (name,)}
        yield {
            "detail": explain(found),
            "pointer": f"#/params/{name}",
            "code": "invalid_parameter",
            **limit_of(found),
            "value": short(value),
        }


def candidates(property_: Mapping[str, Any]) -> list[Any]:
    """A few possible values of a parameter: its default, or typical ones."""
    if "default" in property_:
        return [property_["default"]]
    typical: dict[str, list[Any]] = {
        "string": ["a"],
        "boolean": [True, False],
        "integer": [property_.get("minimum", 1), property_.get("maximum", 100), 1, 10, 100, 1000],
        "number": [property_.get("minimum", 0.5), property_.get("maximum", 1), 0.5, 1, 10, 100],
    }
    found = property_.get("enum", typical[property_["type"]])
    return [value for value in found if not _refusal(property_, value)] or found[:1]
