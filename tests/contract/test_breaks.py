"""Each rule of the API's gate, on the smallest change that breaks it and on its harmless twin."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import breaks, gate
from tests.contract.breaks import breaks_between

Change = Callable[[dict[str, Any]], Any]

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/jobs/{job_id}": {
            "get": {
                "operationId": "get_job",
                "parameters": [
                    {"in": "path", "name": "job_id", "required": True, "schema": {"type": "string"}},
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                ],
                "responses": {
                    "200": {
                        "headers": {"Retry-After": {}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
                    },
                    "202": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}},
                    "404": {"content": {"application/problem+json": {"schema": {"type": "object"}}}},
                },
            },
        },
        "/process": {
            "post": {
                "operationId": "submit",
                "security": [{}, {"key": []}],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Order"}},
                        "text/plain": {"schema": {"type": "string"}},
                    }
                },
                "responses": {
                    "202": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}}
                },
            },
            "delete": {"operationId": "clear", "responses": {"204": {}}},
        },
    },
    "components": {
        "schemas": {
            "Job": {
                "type": "object",
                "required": ["id", "status", "children"],
                "properties": {
                    "id": {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]+$"},
                    "status": {"type": "string", "enum": ["open", "done"]},
                    "progress": {"type": "number", "minimum": 0, "maximum": 1},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}},
                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "Order": {
                "type": "object",
                "required": ["tree"],
                "properties": {
                    "tree": {"type": "array", "maxItems": 8, "items": {"$ref": "#/components/schemas/Node"}},
                    "form": {"type": "string", "contentSchema": {"$ref": "#/components/schemas/Node"}},
                    "name": {"type": "string", "maxLength": 9},
                    "priority": {"type": ["integer", "null"], "minimum": 0, "default": 5},
                    "tags": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {}},
                },
            },
            "Node": {
                "oneOf": [
                    {"type": "string", "enum": ["flip", "blur"]},
                    {"$ref": "#/components/schemas/Resize"},
                    {"$ref": "#/components/schemas/Blur"},
                ]
            },
            "Resize": {
                "type": "object",
                "required": ["op"],
                "anyOf": [{"required": ["width"]}, {"required": ["height"]}],
                "properties": {
                    "op": {"const": "resize"},
                    "width": {"type": "integer", "maximum": 100},
                    "height": {"type": "integer"},
                    "then": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
                },
            },
            "Blur": {
                "type": "object",
                "additionalProperties": False,
                "required": ["op"],
                "properties": {"op": {"const": "blur"}, "sigma": {"type": "number"}},
            },
        }
    },
}


def paths(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]
    return found


def get(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]["/jobs/{job_id}"]["get"]
    return found


def post(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]["/process"]["post"]
    return found


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def member(name: str, of: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: schema(document, of)["properties"][name]


def put(where: Callable[[dict[str, Any]], dict[str, Any]], **members: Any) -> Change:
    return lambda document: where(document).update(members)


def take(where: Callable[[dict[str, Any]], dict[str, Any]], name: str) -> Change:
    return lambda document: where(document).pop(name)


def order(document: dict[str, Any]) -> dict[str, Any]:
    return schema(document, "Order")


def job(document: dict[str, Any]) -> dict[str, Any]:
    return schema(document, "Job")


def parameter(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = get(document)["parameters"][1]
    return found


REQUIRED = {"in": "query", "name": "until", "required": True, "schema": {}}
OPTIONAL = {**REQUIRED, "required": False}

#: rule, place, words of the message, the change
BROKEN: list[tuple[str, str, str, Change]] = [
    ("path-removed", "GET /jobs/{job_id}", "the path is gone", take(paths, "/jobs/{job_id}")),
    ("method-removed", "DELETE /process", "405", lambda each: each["paths"]["/process"].pop("delete")),
    ("operation-renamed", "GET /jobs/{job_id}", "is `job`, it was `get_job`", put(get, operationId="job")),
    ("key-required", "POST /process", "401", put(post, security=[{"key": []}])),
    (
        "parameter-removed",
        "GET /jobs/{job_id}, query parameter limit",
        "gone",
        lambda each: get(each)["parameters"].pop(),
    ),
    (
        "parameter-added-required",
        "GET /jobs/{job_id}, query parameter until",
        "422",
        lambda each: get(each)["parameters"].append(REQUIRED),
    ),
    (
        "parameter-became-required",
        "GET /jobs/{job_id}, query parameter limit",
        "required",
        put(parameter, required=True),
    ),
    (
        "request-limit-narrowed",
        "GET /jobs/{job_id}, query parameter limit",
        "`maximum` is 50, it was 100. Hurts clients that send more than 50",
        lambda each: parameter(each)["schema"].update(maximum=50),
    ),
    (
        "request-default-changed",
        "GET /jobs/{job_id}, query parameter limit",
        "the default is 10, it was 20",
        lambda each: parameter(each)["schema"].update(default=10),
    ),
    (
        "request-type-changed",
        "GET /jobs/{job_id}, path parameter job_id",
        "it is integer, it was string",
        lambda each: get(each)["parameters"][0].update(schema={"type": "integer"}),
    ),
    (
        "body-became-required",
        "POST /process, body",
        "required",
        lambda each: post(each)["requestBody"].update(required=True),
    ),
    (
        "request-media-type-removed",
        "POST /process, body",
        "text/plain",
        lambda each: post(each)["requestBody"]["content"].pop("text/plain"),
    ),
    ("response-status-removed", "GET /jobs/{job_id}, 202", "no longer", lambda each: get(each)["responses"].pop("202")),
    (
        "response-media-type-removed",
        "GET /jobs/{job_id}, 200",
        "application/json",
        lambda each: get(each)["responses"]["200"]["content"].clear(),
    ),
    (
        "response-header-removed",
        "GET /jobs/{job_id}, 200",
        "Retry-After",
        lambda each: get(each)["responses"]["200"]["headers"].clear(),
    ),
    ("request-property-removed", "Order.name", "in POST /process", lambda each: order(each)["properties"].pop("name")),
    (
        "request-property-added-required",
        "Order.size",
        "new and required",
        lambda each: (order(each)["properties"].update(size={}), order(each)["required"].append("size")),
    ),
    (
        "request-property-became-required",
        "Order.name",
        "required now",
        lambda each: order(each)["required"].append("name"),
    ),
    (
        "request-type-changed",
        "Order.name",
        "it is integer, it was string",
        put(member("name", "Order"), type="integer"),
    ),
    ("request-type-changed", "Order.priority", "null", put(member("priority", "Order"), type="integer")),
    ("request-default-changed", "Order.priority", "the default is gone", take(member("priority", "Order"), "default")),
    ("request-limit-narrowed", "Order.priority", "minimum", put(member("priority", "Order"), minimum=1)),
    ("request-limit-narrowed", "Order.name", "`maxLength` is 8", put(member("name", "Order"), maxLength=8)),
    (
        "request-limit-narrowed",
        "Order.name",
        "`minLength` is 1, it was none",
        put(member("name", "Order"), minLength=1),
    ),
    ("request-limit-narrowed", "Order.tree", "maxItems", put(member("tree", "Order"), maxItems=7)),
    ("request-pattern-changed", "Order.name", "pattern", put(member("name", "Order"), pattern="^a")),
    ("request-format-changed", "Order.name", "format", put(member("name", "Order"), format="uri")),
    ("request-closed", "Order", "refused", put(order, additionalProperties=False)),
    ("request-closed", "Order.tags", "refused", put(member("tags", "Order"), additionalProperties=False)),
    (
        "request-limit-narrowed",
        "Order.tags.*",
        "maxLength",
        lambda each: member("tags", "Order")(each)["additionalProperties"].update(maxLength=1),
    ),
    (
        "request-pattern-changed",
        "Order.tags (names)",
        "pattern",
        lambda each: member("tags", "Order")(each)["propertyNames"].update(pattern="^a"),
    ),
    ("request-value-removed", "Node", '"blur"', lambda each: schema(each, "Node")["oneOf"][0]["enum"].pop()),
    ("request-value-removed", "Order.name", 'only ["a"]', put(member("name", "Order"), enum=["a"])),
    ("request-type-changed", "Node (Blur)", "Blur", lambda each: schema(each, "Node")["oneOf"].pop()),
    ("request-limit-narrowed", "Resize.width", "maximum", put(member("width", "Resize"), maximum=50)),
    (
        "request-property-became-required",
        "Resize.width",
        "required",
        lambda each: schema(each, "Resize").update(anyOf=[{"required": ["width"]}]),
    ),
    (
        "request-type-changed",
        "Order.form as JSON",
        "it is integer",
        put(member("form", "Order"), contentSchema={"type": "integer"}),
    ),
    ("response-property-removed", "Job.progress", "read it", lambda each: job(each)["properties"].pop("progress")),
    (
        "response-property-removed",
        "Job.id",
        "in GET /jobs/{job_id}, POST /process",
        lambda each: (job(each)["properties"].pop("id"), job(each)["required"].remove("id")),
    ),
    ("response-property-optional", "Job.id", "may be missing", lambda each: job(each)["required"].remove("id")),
    ("response-type-changed", "Job.id", "it is integer, it was string", put(member("id", "Job"), type="integer")),
    ("response-type-changed", "Job.progress", "null", put(member("progress", "Job"), type=["number", "null"])),
    ("response-type-changed", "Job.tags.*", "any value", put(member("tags", "Job"), additionalProperties=True)),
    ("response-value-removed", "Job.status", '"done"', put(member("status", "Job"), enum=["open"])),
    ("response-limit-widened", "Job.progress", "count on no more", put(member("progress", "Job"), maximum=100)),
    ("response-limit-widened", "Job.progress", "it was 0", take(member("progress", "Job"), "minimum")),
    ("response-pattern-changed", "Job.id", "pattern", put(member("id", "Job"), pattern=".")),
    ("response-format-changed", "Job.id", "uuid", take(member("id", "Job"), "format")),
]

HARMLESS: list[Change] = [
    lambda each: paths(each).update({"/new": {"get": {"responses": {}}}}),
    lambda each: paths(each).update({"/jobs/{id}": paths(each).pop("/jobs/{job_id}")}),
    lambda each: get(each)["parameters"].append(OPTIONAL),
    lambda each: get(each)["parameters"].reverse(),
    lambda each: parameter(each)["schema"].update(maximum=200),
    lambda each: get(each)["responses"].pop("404"),
    lambda each: get(each)["responses"].update({"429": {}}),
    lambda each: post(each).pop("security"),
    lambda each: order(each)["properties"].update(size={"type": "integer"}),
    lambda each: order(each).update(required=[]),
    put(member("name", "Order"), type=["string", "null"]),
    take(member("name", "Order"), "maxLength"),
    put(member("name", "Order"), default="a"),
    put(member("priority", "Order"), type=["number", "null"]),
    lambda each: schema(each, "Node")["oneOf"][0]["enum"].append("turn"),
    lambda each: schema(each, "Node")["oneOf"].append({"type": "integer"}),
    lambda each: schema(each, "Node")["oneOf"].reverse(),
    lambda each: schema(each, "Resize").pop("anyOf"),
    lambda each: job(each)["properties"].update(size={"type": "integer"}),
    lambda each: job(each)["required"].append("progress"),
    put(member("status", "Job"), enum=["open", "done", "lost"]),
    put(member("progress", "Job"), type="integer", maximum=0.5),
    put(member("note", "Job"), anyOf=[{"type": "string", "maxLength": 9}]),
    lambda each: each.update(
        json.loads(json.dumps(each).replace("schemas/Job", "schemas/JobView").replace('"Job"', '"JobView"'))
    ),
]


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert document != DOCUMENT
    return document


@pytest.mark.parametrize(("rule", "where", "words", "change"), BROKEN, ids=[f"{row[0]}-{row[1]}" for row in BROKEN])
def test_a_break_is_told_once_with_its_place(rule: str, where: str, words: str, change: Change) -> None:
    [found] = breaks_between(DOCUMENT, changed(change))
    assert found.key == (rule, where)
    assert words in str(found)
    assert found.hurts.startswith(("clients", "generated clients"))


@pytest.mark.parametrize("change", HARMLESS)
def test_what_clients_can_live_with_is_no_break(change: Change) -> None:
    assert breaks_between(DOCUMENT, changed(change)) == []


def with_tree(document: dict[str, Any], *more: str) -> dict[str, Any]:
    """A job that repeats the tree it was ordered with, whose nodes have more kinds."""
    found = copy.deepcopy(document)
    job(found)["properties"]["tree"] = {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}
    for name in more:
        schema(found, "Node")["oneOf"].append({"$ref": f"#/components/schemas/{name}"})
        members = {"op": {"const": name.lower()}}
        found["components"]["schemas"][name] = {"type": "object", "required": ["op"], "properties": members}
    return found


def test_a_new_kind_of_node_comes_back_only_to_the_client_that_sent_it() -> None:
    assert breaks_between(with_tree(DOCUMENT), with_tree(DOCUMENT, "Web")) == []
    only_in_answers = with_tree(DOCUMENT)
    post(only_in_answers).pop("requestBody")
    after = with_tree(DOCUMENT, "Web")
    post(after).pop("requestBody")
    [found] = breaks_between(only_in_answers, after)
    assert found.key == ("response-type-changed", "Node (Web)")


def test_nothing_is_broken_where_nothing_has_changed() -> None:
    assert breaks_between(DOCUMENT, DOCUMENT) == []


def test_every_rule_is_documented_and_tried() -> None:
    rules = re.findall(r"[a-z]+(?:-[a-z]+)+", breaks.__doc__ or "")
    assert {rule for rule, *_ in BROKEN} == set(rules)


# -- the gate ----------------------------------------------------------------------------------------------------------


def test_the_api_breaks_nothing_but_what_is_accepted() -> None:
    before = gate.from_text(gate.BASELINE.read_text())
    mistakes = gate.verdict(before, gate.description(), gate.accepted(gate.ACCEPTED))
    assert mistakes == [], "\n".join(mistakes)


def test_a_break_that_is_meant_is_taken_and_one_that_is_none_is_told() -> None:
    after = changed(lambda each: order(each)["properties"].pop("name"))
    key = ("request-property-removed", "Order.name")
    [mistake] = gate.verdict(DOCUMENT, after, [])
    assert 'rule = "request-property-removed"' in mistake
    assert 'where = "Order.name"' in mistake
    assert gate.verdict(DOCUMENT, after, [key]) == []
    assert gate.verdict(DOCUMENT, DOCUMENT, [key]) == [
        "accepted-breaks.toml: there is no break `request-property-removed` at `Order.name`"
    ]


def test_an_accepted_break_has_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "accepted.toml"
    entry = '[[accepted]]\nrule = "a"\nwhere = "b"\n'
    file.write_text(f'{entry}reason = "It was never used."\n')
    assert gate.accepted(file) == [("a", "b")]
    for text in (entry, f'{entry}reason = " "\n'):
        file.write_text(text)
        with pytest.raises(ValueError, match="reason"):
            gate.accepted(file)
