"""Whatever the parameters of an operation allow can be done with a sound picture, or is refused for what it is."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from app.errors import AreaOutsideImage, GlyphMissing, ImageTooLarge, InvisibleText, TargetUnreachable
from app.imaging.pipeline import Limits, Stage, Target, render
from app.operations import OPERATIONS, Operation, Queue
from tests.support.sampling import WHOLE

LIMITS = Limits(pixels=1_000_000, side=4000)
REFUSALS = (AreaOutsideImage, TargetUnreachable, ImageTooLarge, InvisibleText, GlyphMissing)
PICTURES = [
    "jpeg",
    "jpeg-cmyk",
    "png-alpha-p3",
    "png-grey",
    "png-grey-alpha",
    "png-rgb-16",
    "png-palette",
    "gif-animated",
]
MAX_EFFORT = 3  # more takes its time and does nothing else

Schema = dict[str, Any]


def _values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values of a parameter, its bounds above all; some are none, because a pattern may say more than is read here."""
    if "anyOf" in schema:
        return st.one_of(*map(_values, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] in {"integer", "number"}:
        return _numbers(schema)
    if schema["type"] == "array":
        most = min(schema["maxItems"], 3)
        return st.lists(_values(schema["items"]), min_size=schema["minItems"], max_size=most)
    if schema["type"] == "string" and "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    texts = st.text(max_size=schema.get("maxLength"))
    return {"string": texts, "boolean": st.booleans(), "null": st.none()}[schema["type"]]


def _numbers(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 5000)
    between = st.integers if schema["type"] == "integer" else st.floats
    return st.sampled_from([low, high]) | between(low, high) | between(low, min(high, low + 100))


def _params(operation: Operation) -> st.SearchStrategy[Schema]:
    """Parameters that the operation accepts."""
    schema = operation.params.model_json_schema()
    fields = {
        name: _values(field) for name, field in schema.get("properties", {}).items() if name not in operation.assets
    }
    required = {name: fields.pop(name) for name in schema.get("required", [])}
    accepted = TypeAdapter(operation.params)

    def accepts(params: Schema) -> bool:
        try:
            accepted.validate_python(params, strict=True)
        except ValidationError:
            return False
        return True

    return st.fixed_dictionaries(required, optional=fields).filter(accepts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "op", [operation.name for operation in OPERATIONS.values() if operation.queue is Queue.DEFAULT]
)
@settings(max_examples=25 if WHOLE else 8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_all_that_is_allowed_is_done_or_refused(
    samples: dict[str, Path], tmp_path: Path, op: str, data: st.DataObject
) -> None:
    operation = OPERATIONS[op]
    params = data.draw(_params(operation))
    if "effort" in params:
        params["effort"] = min(params["effort"], MAX_EFFORT)
    source = samples[data.draw(st.sampled_from(PICTURES))]
    stages = [] if operation.format else [Stage(op, params)]
    encoding = (op, params) if operation.format else ("convert_png", {"compression": 1})
    target = Target(tmp_path / "result", *encoding)
    try:
        [rendered] = render(source, stages, [target], LIMITS)
    except REFUSALS:
        return
    if operation.bundle:
        assert [(part.format, part.width) for part in rendered.parts][-2:] == [("json", None), ("html", None)]
        assert all(target.path_of(part).stat().st_size for part in rendered.parts)
    elif op != "metadata":
        with Image.open(target.path) as image:
            image.load()
            assert (image.width, image.height) == (rendered.width, rendered.height)
