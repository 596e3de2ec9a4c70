"""The JSON schema of the operation tree, derived from the models that check it: a union by `op` over all operations."""

from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from typing_extensions import TypeAliasType

from app.operations import OPERATIONS, Operation
from app.schemas import left_out
from app.services.intake.operation_tree import MAX_RESULT_NAME, RESULT_NAME

TREE = "OperationTree"
ENTRY = "OperationEntry"
REFERENCE = "#/components/schemas/{model}"

EXAMPLES: list[Any] = [
    ["convert_avif", {"op": "resize", "width": 1280, "then": ["convert_webp", {"op": "convert_jpeg", "as": "hero"}]}],
    ["convert_webp"],
]


@cache
def components() -> dict[str, Any]:
    """The schemas of `OperationTree` and of everything that it refers to, for the components of the document."""
    generated = TypeAdapter(_entry()).json_schema(ref_template=REFERENCE)
    schemas: dict[str, Any] = generated["$defs"]
    for node in schemas.values():
        if "op" in node.get("properties", {}):
            node["properties"] = {"op": node["properties"].pop("op"), **node["properties"]}  # show `op` first
    return {TREE: _tree(), **schemas}


def _tree() -> dict[str, Any]:
    return {
        "title": TREE,
        "description": "Parallel branches that all start from the upload. `GET /operations` says how many operations "
        "and levels there may be.",
        "type": "array",
        "items": {"$ref": REFERENCE.format(model=ENTRY)},
        "minItems": 1,
        "examples": EXAMPLES,
    }


def _entry() -> Any:
    """The type of an entry: an operation's name, or an object with parameters."""
    nodes = [_node(operation) for operation in OPERATIONS.values()]
    union: Any = Union[tuple(nodes)]  # noqa: UP007 - of a computed list
    names: Any = Literal[tuple(name for name, operation in OPERATIONS.items() if _works_alone(operation))]
    alone = _alias("OperationName", names)
    entry = _alias(ENTRY, Union[alone, Annotated[union, Field(discriminator="op")]])  # noqa: UP007
    for node in nodes:
        node.model_rebuild(_types_namespace={ENTRY: entry})
    return entry


def _alias(name: str, value: Any) -> Any:
    """A type with its own named schema."""
    make: Any = TypeAliasType
    return make(name, value)


def _works_alone(operation: Operation) -> bool:
    """Whether the operation has no required parameter, so that its name alone is enough."""
    try:
        operation.params()
    except ValidationError:
        return False
    return True


def _node(operation: Operation) -> type[BaseModel]:
    most = None if operation.gives_image else 0  # further operations need an image
    fields: dict[str, Any] = {
        "op": (Literal[operation.name], ...),
        "as_": (
            str,
            Field(
                None,
                alias="as",
                pattern=f"^{RESULT_NAME.pattern}$",
                max_length=MAX_RESULT_NAME,
                description="Name of the result; default: the path of operations.",
                json_schema_extra=left_out,
            ),
        ),
        "keep": (bool, Field(False, description="Whether it is a result although `then` continues from it.")),
        "then": (list[ENTRY], Field([], max_length=most, description="What continues from its output.")),  # type: ignore[valid-type]
    }
    model: type[BaseModel] = create_model(
        f"{operation.name.title().replace('_', '')}Operation",
        __base__=operation.params,
        __doc__=operation.params.__doc__,
        **fields,
    )
    return model
