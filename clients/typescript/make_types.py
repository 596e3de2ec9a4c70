"""Makes `api.d.ts` of the server's description of its API: `python clients/typescript/make_types.py`."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from app.main import create_app

Schema = Mapping[str, Any]

FILE = Path(__file__).parent / "api.d.ts"
FIRST = "// Made by make_types.py of the server's `/openapi.json`: change nothing here.\n"
WIDTH = 110  # characters of a comment's line, from the first column on
LONGEST_UNION = 80  # characters in one line
STEP = "  "
LONGEST_TUPLE = 4
SIMPLE = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
UNIONS = ("anyOf", "oneOf")


def made() -> str:
    """The text of `api.d.ts`: every component, and every route by its method and path."""
    document = create_app().openapi()
    schemas = sorted(document["components"]["schemas"].items())
    blocks = [FIRST, *(_component(name, schema) for name, schema in schemas), _routes(document["paths"])]
    return "\n".join(blocks)


def _component(name: str, schema: Schema) -> str:
    comment = _comment(schema.get("description"), "")
    text = _type(schema, "")
    if text.startswith("{"):
        return f"{comment}export interface {_name(name)} {text}\n"
    return f"{comment}export type {_name(name)} ={_after(text)};\n"


def _after(text: str) -> str:
    """A type, on the line of its name or below it."""
    return text if text.startswith("\n") else f" {text}"


def _name(reference: str) -> str:
    """Of a component, as TypeScript can have it."""
    return reference.rpartition("/")[2].replace("-", "")


# -- routes ------------------------------------------------------------------------------------------------------------


def _routes(paths: Mapping[str, Schema]) -> str:
    lines = "".join(
        f"{_comment(operation.get('summary'), STEP)}{STEP}{json.dumps(f'{method.upper()} {path}')}: "
        f"{_route(operation, STEP)};\n"
        for path, methods in paths.items()
        for method, operation in methods.items()
    )
    first = "/** Every route: what it takes, and what it answers when all is well. */"
    return f"{first}\nexport interface Routes {{\n{lines}}}\n"


def _route(operation: Schema, indent: str) -> str:
    deeper = indent + STEP
    parts = [_parameters(operation, place, deeper) for place in ("path", "query")]
    parts += [_body(operation, deeper), f"answer: {_answer(operation, deeper)}"]
    return "{\n" + "".join(f"{deeper}{part};\n" for part in parts) + f"{indent}}}"


def _parameters(operation: Schema, place: str, indent: str) -> str:
    found = [each for each in operation.get("parameters", ()) if each["in"] == place]
    if not found:
        return f"{place}?: never"
    required = [each["name"] for each in found if each.get("required")]
    members = {each["name"]: {**each["schema"], "description": each.get("description")} for each in found}
    mark = "" if required else "?"
    return f"{place}{mark}: {_object({'properties': members, 'required': required}, indent)}"


def _body(operation: Schema, indent: str) -> str:
    body = operation.get("requestBody", {})
    content = body.get("content", {}).get("application/json")
    if content is None:
        return "json?: never"
    return f"json{'' if body.get('required') else '?'}: {_type(content['schema'], indent)}"


def _answer(operation: Schema, indent: str) -> str:
    """Of every success: undefined where there is no body, never where there is one that is not JSON."""
    contents = [each.get("content", {}) for status, each in operation["responses"].items() if status.startswith("2")]
    return _union([_content(each, indent) for each in contents], indent)


def _content(content: Schema, indent: str) -> str:
    if "application/json" in content:
        return _type(content["application/json"]["schema"], indent)
    return "never" if content else "undefined"


# -- types -------------------------------------------------------------------------------------------------------------


def _type(schema: Schema, indent: str) -> str:
    """A schema as a type."""
    return _union(_ways(schema, indent), indent)


def _union(ways: Iterable[str], indent: str) -> str:
    """Each way once; a long list has a line for each."""
    parts = list(dict.fromkeys(ways))
    line = " | ".join(parts)
    if len(line) <= LONGEST_UNION or "{" in line:
        return line
    return "".join(f"\n{indent}{STEP}| {part}" for part in parts)


def _ways(schema: Schema, indent: str) -> list[str]:
    """What a value may be."""
    if "$ref" in schema:
        return [_name(schema["$ref"])]
    if "const" in schema or "enum" in schema:
        return [json.dumps(value) for value in schema.get("enum", [schema.get("const")])]
    variants = _variants(schema)
    if variants:
        return [way for each in variants for way in _ways(each, indent)]
    if schema.get("type") == "array":
        return [_array(schema, indent)]
    if schema.get("type") == "object":
        return [_object(schema, indent)]
    return ["Blob" if schema.get("format") == "binary" else SIMPLE.get(schema.get("type", ""), "unknown")]


def _variants(schema: Schema) -> list[Schema]:
    """Of a union, or of a list of types; what only narrows a type that is there already is none."""
    for union in UNIONS:
        found = [each for each in schema.get(union, ()) if _is_type(each)]
        if found:
            return found
    types = schema.get("type")
    return [{**schema, "type": each} for each in types] if isinstance(types, list) else []


def _is_type(schema: Schema) -> bool:
    return bool({"$ref", "const", "enum", "type", *UNIONS} & schema.keys())


def _array(schema: Schema, indent: str) -> str:
    item = _type(schema.get("items", {}), indent)
    length = schema.get("minItems")
    if length == schema.get("maxItems") and length in range(1, LONGEST_TUPLE + 1):
        return f"[{', '.join([item] * length)}]"
    if schema.get("maxItems") == 0:
        return "[]"
    return f"({item})[]" if "|" in item else f"{item}[]"


def _object(schema: Schema, indent: str) -> str:
    members = "".join(_members(schema, indent + STEP))
    others = schema.get("additionalProperties")
    if not members:
        return f"Record<string, {_type(others, indent) if isinstance(others, Mapping) else 'unknown'}>"
    if others is True:
        members += f"{indent}{STEP}[member: string]: unknown;\n"
    return f"{{\n{members}{indent}}}"


def _members(schema: Schema, indent: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        shown = name if name.isidentifier() else json.dumps(name)
        mark = "" if name in required else "?"
        yield f"{_comment(member.get('description'), indent)}{indent}{shown}{mark}:{_after(_type(member, indent))};\n"


def _comment(text: str | None, indent: str) -> str:
    if not text:
        return ""
    text = " ".join(text.replace("*/", "*\\/").split())
    if len(indent) + len(text) + len("/**  */") <= WIDTH:
        return f"{indent}/** {text} */\n"
    lines = textwrap.wrap(text, WIDTH - len(indent) - len(" * "))
    return f"{indent}/**\n" + "".join(f"{indent} * {line}\n" for line in lines) + f"{indent} */\n"


if __name__ == "__main__":
    FILE.write_text(made())
