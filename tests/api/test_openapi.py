"""The description of the API: that it is complete, exact and made of the models that check requests."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.requests import Request

from app import errors, problems
from app.main import app
from app.operations import OPERATIONS
from app.services.intake import operation_tree
from app.services.intake.operation_tree import TreeLimits, parse_tree

DOCUMENT: dict[str, Any] = app.openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
ROUTES = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
LIMITS = TreeLimits(nodes=32, depth=8, bytes=65_536)
PROBLEM = "application/problem+json"


def validate(value: Any, name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


# -- names -------------------------------------------------------------------------------------------------------------


def test_operations_have_short_names_of_their_own() -> None:
    names = [DOCUMENT["paths"][path][method]["operationId"] for method, path in ROUTES]
    assert len(names) == len(set(names))
    assert {"submit_job", "get_job", "list_jobs", "cancel_job", "list_operations", "create_endpoint"} <= set(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+){1,2}", name) for name in names), names


def test_links_lead_to_operations_that_there_are() -> None:
    names = {DOCUMENT["paths"][path][method]["operationId"] for method, path in ROUTES}
    text = json.dumps(DOCUMENT["paths"])
    assert set(re.findall(r'"parameters": {"\w+": "\$response', text))
    linked = [
        link["operationId"]
        for method, path in ROUTES
        for answer in DOCUMENT["paths"][path][method]["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert linked
    assert set(linked) <= names


# -- problems ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_error_is_described_as_a_problem(method: str, path: str) -> None:
    answers = DOCUMENT["paths"][path][method]["responses"]
    for status, answer in answers.items():
        if status.startswith("4"):
            assert list(answer["content"]) == [PROBLEM], status
            assert answer["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {"422", "431", "503"} <= set(answers)
    with_json = "application/json" in DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    assert ({"400", "413", "415"} <= set(answers)) >= with_json
    assert ("403" in answers) >= (method != "get")


def _every_error() -> list[errors.PixToolsError]:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PixToolsError)
    ]
    hidden = (errors.StepFailed, errors.CannotStart, errors.InvalidOperations)
    return [kind() for kind in kinds if not issubclass(kind, hidden)]


@pytest.mark.parametrize("error", _every_error(), ids=lambda error: error.code)
def test_what_is_sent_fits_the_description(error: errors.PixToolsError) -> None:
    request = Request({"type": "http", "method": "GET", "path": "/jobs", "headers": [], "query_string": b""})
    bare = json.loads(bytes(problems._on_error(request, error).body))
    validate(bare, "Problem")
    assert "errors" not in bare
    error.pointer, error.limit, error.value = "#/file", 3, "x"
    validate(json.loads(bytes(problems._on_error(request, error).body)), "Problem")


def test_what_is_no_text_can_be_told() -> None:
    request = Request({"type": "http", "method": "GET", "path": "/jobs", "headers": [], "query_string": b""})
    answer = problems._on_error(request, errors.InvalidParameter("no \ud800", value="\udfff"))
    validate(json.loads(bytes(answer.body)), "Problem")


def test_every_code_of_a_tree_is_described() -> None:
    source = Path(operation_tree.__file__).read_text()
    codes = set(re.findall(r'mistakes\.(?:add|stop)\(\s*"(\w+)"', source))
    assert len(codes) > 5
    assert codes <= set(SCHEMAS["Problem"]["properties"]["code"]["enum"])


# -- enumerations ------------------------------------------------------------------------------------------------------


def test_states_formats_and_codes_are_enumerations() -> None:
    assert SCHEMAS["JobStatus"]["enum"] == [
        *("pending", "processing", "completed", "completed_with_errors", "failed", "cancelled")
    ]
    assert set(SCHEMAS["ResultView"]["properties"]["format"]["enum"]) >= {"webp", "avif", "jpeg", "png", "json"}
    assert "corrupt_image" in SCHEMAS["ErrorRecord"]["properties"]["code"]["enum"]
    assert "corrupt_image" not in SCHEMAS["Problem"]["properties"]["code"]["enum"]


# -- the upload and its tree -------------------------------------------------------------------------------------------


def test_the_upload_is_described_with_its_tree() -> None:
    submit = DOCUMENT["paths"]["/process"]["post"]
    form = submit["requestBody"]["content"]["multipart/form-data"]["schema"]
    operations = form["properties"]["operations"]
    assert operations["contentMediaType"] == "application/json"
    assert operations["contentSchema"] == {"$ref": "#/components/schemas/OperationTree"}
    for example in operations["examples"]:
        validate(json.loads(example), "OperationTree")
        parse_tree(example, LIMITS)
    for status in ("200", "202"):
        schema = submit["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/JobView"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_every_operation_has_a_schema(operation: Any) -> None:
    node = {"op": operation.name, **operation.example}
    validate([node], "OperationTree")
    validate([{"op": "flip", "then": [node]}], "OperationTree")
    with pytest.raises(jsonschema.ValidationError):
        validate([{**node, "no_such_parameter": 1}], "OperationTree")


TREES: list[tuple[Any, bool]] = [
    (["convert_webp"], True),
    ([{"op": "resize", "width": 9, "then": ["convert_webp", {"op": "flip", "as": "a.b", "keep": True}]}], True),
    ([{"op": "crop", "width": 1, "height": 1, "left": 0, "top": 0}], True),
    ([], False),
    (["resize"], False),
    (["no_such_operation"], False),
    ([{"op": "resize"}], False),
    ([{"op": "resize", "width": "9"}], False),
    ([{"op": "resize", "width": 0}], False),
    ([{"op": "crop", "width": 1, "height": 1, "left": 0}], False),
    ([{"op": "watermark"}], False),
    ([{"op": "watermark", "text": "a", "image": "b"}], False),
    ([{"op": "flip", "keep": 1}], False),
    ([{"op": "flip", "as": "a b"}], False),
    ([{"op": "flip", "then": "convert_webp"}], False),
    ([{"op": "metadata", "then": ["flip"]}], False),
    ([{"op": "flip", "then": [{"op": "blur"}]}], False),
    ({"op": "flip"}, False),
]


@pytest.mark.parametrize(("tree", "right"), TREES)
def test_the_schema_and_the_check_agree(tree: Any, right: bool) -> None:
    for check in (lambda: validate(tree, "OperationTree"), lambda: parse_tree(json.dumps(tree), LIMITS)):
        if right:
            check()
        else:
            with pytest.raises((jsonschema.ValidationError, errors.InvalidOperations)):
                check()


# -- what requests may hold --------------------------------------------------------------------------------------------


def test_limits_of_pages_are_told() -> None:
    for path in ("/jobs", "/deliveries", "/events"):
        [limit] = [one for one in DOCUMENT["paths"][path]["get"]["parameters"] if one["name"] == "limit"]
        assert (limit["schema"]["type"], limit["schema"]["minimum"], limit["schema"]["maximum"]) == ("integer", 1, 100)


def test_waiting_is_described_where_it_can_be_asked_for() -> None:
    for method, path in (("post", "/process"), ("get", "/jobs/{job_id}"), ("get", "/events")):
        assert "prefer" in [one["name"] for one in DOCUMENT["paths"][path][method]["parameters"]]
