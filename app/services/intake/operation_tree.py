"""Parses and checks the `operations` field, with a pointer to every mistake."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn

from pydantic import ValidationError

from app.errors import InvalidOperations
from app.operations import OPERATIONS, Operation
from app.parameters import Params
from app.services.dag_builder import Node
from app.services.intake import strict_json
from app.services.intake.strict_json import KeyTwice, NestedTooDeep, NotStrict
from app.services.intake.validation import escaped, explain, limit_of, short, value_of

RESULT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
MAX_RESULT_NAME = 64  # characters
MAX_REPORTED = 20  # mistakes in one answer
LONGEST_HINT = 300  # characters that are searched for the names of operations
NODE_KEYS = frozenset({"op", "then", "keep", "as"})


@dataclass(frozen=True, kw_only=True)
class TreeLimits:
    """The limits of a tree."""

    nodes: int
    depth: int
    bytes: int


@dataclass
class _Mistakes:
    """The mistakes found so far; the first one determines the error code."""

    limits: TreeLimits
    nodes: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    code: str | None = None

    def add(self, code: str, detail: str, pointer: str, **more: Any) -> None:
        self.code = self.code or code
        if len(self.errors) < MAX_REPORTED:
            self.errors.append({"detail": detail, "pointer": pointer, "code": code, **more})

    def stop(self, code: str, detail: str, pointer: str, **more: Any) -> NoReturn:
        """Refuse the tree at once because of a limit, without reading the rest of it."""
        raise InvalidOperations([{"detail": detail, "pointer": pointer, "code": code, **more}], code=code)


def parse_tree(text: str | bytes, limits: TreeLimits) -> tuple[list[Any], tuple[Node, ...]]:
    """Read and check an operation tree.

    Args:
        text: the JSON array as it was sent.
        limits: limits on the size of the tree.

    Returns:
        The array as sent, and the checked branches.

    Raises:
        InvalidOperations: the tree has mistakes; each has an entry with a JSON pointer.
    """
    mistakes = _Mistakes(limits)
    raw = _read_json(text, mistakes)
    branches = _nodes(raw, mistakes, prefix="", pointer="#/operations", depth=1)
    if not mistakes.errors:
        _check_names(branches, mistakes)
    if mistakes.errors:
        raise InvalidOperations(mistakes.errors, code=mistakes.code)
    return raw, branches


def _read_json(text: str | bytes, mistakes: _Mistakes) -> list[Any]:
    size = len(text) if isinstance(text, bytes) else len(text.encode())
    limit = mistakes.limits.bytes
    if size > limit:
        detail = f"The operations field is {size} bytes long, the limit is {limit}."
        mistakes.stop("operations_too_long", detail, "#/operations", limit=limit, value=size)
    try:
        raw = strict_json.read(text)
    except NestedTooDeep:
        _too_deep(mistakes, "#/operations", None)
    except KeyTwice as error:
        _, twice = error.args
        detail = f"The key {twice!r} appears twice in one object."
        mistakes.stop("invalid_json", detail, "#/operations", value=twice)
    except NotStrict as error:
        detail = f"The operations field is not valid JSON{error.args[0]}.{_right_form(text)}"
        mistakes.stop("invalid_json", detail, "#/operations")
    if not isinstance(raw, list):
        detail = f"The operations must be a JSON array of branches.{_right_form(raw)}"
        mistakes.stop("invalid_operations", detail, "#/operations")
    if not raw:
        mistakes.stop("invalid_operations", "The operations must hold at least one operation.", "#/operations")
    return raw


def _right_form(given: Any) -> str:
    """The correct form of what was probably meant: names without brackets and quotes, or a single operation."""
    text = given.decode(errors="replace") if isinstance(given, bytes) else given
    if isinstance(text, dict) and isinstance(text.get("op"), str):
        return " Put the operation between [ and ]."
    names = re.findall(r"[\w-]+", text[:LONGEST_HINT]) if isinstance(text, str) else []
    if not names or not OPERATIONS.keys() >= set(names):
        return ""
    return f" Write {json.dumps(names)}."


def _too_deep(mistakes: _Mistakes, pointer: str, depth: int | None) -> NoReturn:
    limit = mistakes.limits.depth
    detail = f"The operation tree is nested deeper than {limit} operations."
    mistakes.stop("tree_too_deep", detail, pointer, limit=limit, value=depth)


def _nodes(raw: list[Any], mistakes: _Mistakes, *, prefix: str, pointer: str, depth: int) -> tuple[Node, ...]:
    """Check an array of nodes: the branches of the tree, or a `then`."""
    limits = mistakes.limits
    if depth > limits.depth:
        _too_deep(mistakes, pointer, depth)
    mistakes.nodes += len(raw)
    if mistakes.nodes > limits.nodes:
        detail = f"The operation tree has more than {limits.nodes} operations."
        mistakes.stop("too_many_operations", detail, pointer, limit=limits.nodes, value=mistakes.nodes)
    found = (
        _node(entry, mistakes, id_=f"{prefix}{index}", pointer=f"{pointer}/{index}", depth=depth)
        for index, entry in enumerate(raw)
    )
    return tuple(node for node in found if node is not None)


def _node(entry: Any, mistakes: _Mistakes, *, id_: str, pointer: str, depth: int) -> Node | None:
    entry = {"op": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict):
        mistakes.add("invalid_operations", "An operation is a name or an object with `op`.", pointer)
        return None
    operation = _operation(entry, mistakes, pointer)
    params = _params(operation, entry, mistakes, pointer) if operation else None
    keep = _keep(entry, mistakes, pointer)
    name = _name(entry, mistakes, pointer)
    then = _then(entry, mistakes, id_=id_, pointer=pointer, depth=depth)
    if then and operation and not operation.gives_image:
        message = f"Nothing continues from `{operation.name}`: it ends a branch."
        mistakes.add("invalid_operations", message, f"{pointer}/then")
    if operation is None or params is None:
        return None
    return Node(id=id_, operation=operation, params=params, keep=keep, name=name, pointer=pointer, then=then)


def _operation(entry: Mapping[str, Any], mistakes: _Mistakes, pointer: str) -> Operation | None:
    name = entry.get("op")
    if isinstance(name, str) and name in OPERATIONS:
        return OPERATIONS[name]
    where = f"{pointer}/op" if "op" in entry else pointer
    if isinstance(name, str):
        known = sorted(OPERATIONS)
        detail = f"There is no operation {name[:64]!r}{_like(name, known)}; there are {', '.join(known)}."
        mistakes.add("unknown_operation", detail, where, value=name[:64])
    else:
        mistakes.add("invalid_operations", "`op` must be the name of an operation.", where)
    return None


def _params(operation: Operation, entry: Mapping[str, Any], mistakes: _Mistakes, pointer: str) -> Params | None:
    given = {key: value for key, value in entry.items() if key not in NODE_KEYS}
    unknown = [key for key in given if key not in operation.params.model_fields]
    for key in unknown[MAX_REPORTED:]:
        del given[key]  # describing so many would take long, and they are not reported anyway
    try:
        return operation.params.model_validate(given, strict=True)
    except ValidationError as error:
        for mistake in error.errors(include_url=False)[:MAX_REPORTED]:
            where = "/".join([pointer, *(escaped(str(part)) for part in mistake["loc"])])
            is_unknown = mistake["type"] == "extra_forbidden"
            said = _unknown(operation, str(mistake["loc"][-1]), mistake["input"]) if is_unknown else explain(mistake)
            detail = f"{operation.name}: {said}"
            mistakes.add("invalid_parameter", detail, where, **limit_of(mistake), **value_of(mistake))
        return None


def _unknown(operation: Operation, key: str, value: Any) -> str:
    """The message for a parameter that an operation does not have."""
    known = list(operation.params.model_fields)
    if isinstance(value, dict) and value and value.keys() <= set(known):
        return f"there is no parameter {key[:64]!r}; write its members next to `op`."
    has = f"there are {', '.join(known)}" if known else "it has none"
    return f"there is no parameter {key[:64]!r}{_like(key, known)}; {has}."


def _like(name: str, known: Sequence[str]) -> str:
    """A suggestion for a misspelt name, as an addition to a message; empty if no known name is similar."""
    close = get_close_matches(name[:64].lower(), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _keep(entry: Mapping[str, Any], mistakes: _Mistakes, pointer: str) -> bool:
    keep = entry.get("keep", False)
    if isinstance(keep, bool):
        return keep
    mistakes.add("invalid_operations", "`keep` must be true or false.", f"{pointer}/keep", value=short(keep))
    return False


def _name(entry: Mapping[str, Any], mistakes: _Mistakes, pointer: str) -> str | None:
    if "as" not in entry:
        return None
    name = entry["as"]
    if isinstance(name, str) and len(name) <= MAX_RESULT_NAME and RESULT_NAME.fullmatch(name):
        return name
    detail = f"`as` must be 1 to {MAX_RESULT_NAME} letters, digits, '_', '-' and single dots."
    mistakes.add("invalid_result_name", detail, f"{pointer}/as", limit=MAX_RESULT_NAME, value=short(name))
    return None


def _then(entry: Mapping[str, Any], mistakes: _Mistakes, *, id_: str, pointer: str, depth: int) -> tuple[Node, ...]:
    then = entry.get("then", [])
    if not isinstance(then, list):
        mistakes.add("invalid_operations", "`then` must be an array of operations.", f"{pointer}/then")
        return ()
    if not then:
        return ()
    return _nodes(then, mistakes, prefix=f"{id_}.", pointer=f"{pointer}/then", depth=depth + 1)


def _check_names(branches: tuple[Node, ...], mistakes: _Mistakes) -> None:
    """Check that the client's names are unique and belong to nodes with a result."""
    seen: dict[str, str] = {}
    for node in _walk(branches):
        if node.name is None:
            continue
        where = f"{node.pointer}/as"
        if node.then and not node.keep:
            detail = '`as` names a result, but this operation is continued by `then`; add "keep": true.'
            mistakes.add("invalid_result_name", detail, where, value=node.name)
        first = seen.setdefault(node.name.lower(), node.pointer)
        if first != node.pointer:
            detail = f"Two results are named {node.name!r}; the first one is at {first}."
            mistakes.add("duplicate_result_name", detail, where, value=node.name)
    sets = [node for node in _walk(branches) if node.name and node.operation.bundle]
    for node in (node for node in _walk(branches) if node.name):
        for other in sets:
            if str(node.name).lower().startswith(f"{str(other.name).lower()}."):
                detail = f"The names of the files of {other.name!r}, at {other.pointer}, begin with it and a dot."
                mistakes.add("duplicate_result_name", detail, f"{node.pointer}/as", value=node.name)


def _walk(branches: tuple[Node, ...]) -> Iterator[Node]:
    for branch in branches:
        yield from branch.walk()
