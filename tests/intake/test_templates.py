"""Templates: checked when they are stored, never changed, and expanded by the jobs that name them."""

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.database import Database
from app.models import AuditEntry, Scope, TemplateVersion, TenantRecord, UsageDay
from app.services.access import usage
from app.services.intake import templates
from app.services.intake.builtin_templates import BUILT_IN
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.intake.templates import Definition
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT
from tests.support.commands import Run
from tests.support.submitting import accepted, call, submit
from tests.support.tenants import Belongings, Service, new_key
from tests.support.work import change, in_parallel, job_of, run_task

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LIMITS = TreeLimits(nodes=8, depth=4, bytes=10_000)
WIDTH = {"type": "integer", "minimum": 16, "maximum": 2048, "default": 320}
PLACE = "#/params/properties/width"
SHOP: dict[str, Any] = {
    "operations": [{"op": "resize", "width": {"param": "width"}, "then": [{"op": {"param": "format"}, "as": "hero"}]}],
    "params": {
        "properties": {"width": WIDTH, "format": {"type": "string", "enum": ["convert_webp", "convert_jpeg"]}},
        "required": ["format"],
    },
}


def put(service: Service, body: Any = None, name: str = "shop", key: str | None = None) -> Any:
    return call(service, "PUT", f"/templates/{name}", key, json=body or SHOP)


def tree(params: dict[str, Any], *operations: Any) -> dict[str, Any]:
    return {"operations": list(operations), "params": {"properties": params}}


WEBP = {"format": "convert_webp"}
FIXED = {"op": "resize", "width": 3}
RESIZE = {"op": "resize", "width": {"param": "width"}}


# -- versions ----------------------------------------------------------------------------------------------------------


def test_an_equal_body_is_the_same_version_and_another_one_is_the_next(service: Service, database: Database) -> None:
    first = put(service)
    assert (first.status_code, first.json()["template"], first.headers["Location"]) == (
        *(201, "shop@1"),
        "/templates/shop@1",
    )
    same = put(service, dict(reversed(json.loads(json.dumps(SHOP)).items())))
    assert (same.status_code, same.json()) == (200, first.json())
    other = put(service, tree({"width": WIDTH}, RESIZE))
    assert (other.status_code, other.json()["version"]) == (201, 2)
    assert call(service, "GET", "/templates/shop@1").json()["operations"] == SHOP["operations"]
    for reference in ("shop", "shop@2", "shop@latest"):
        assert call(service, "GET", f"/templates/{reference}").json()["operations"] == [RESIZE]
    assert put(service).json()["version"] == 3, "back to what it was is a new version: the latest one is what is meant"
    for reference in ("shop@4", "shop@0", "shop@x", "other", "a b"):
        missing = call(service, "GET", f"/templates/{reference}")
        assert (missing.status_code, missing.json()["code"]) == (404, "template_not_found")
    listed = call(service, "GET", "/templates").json()["data"]
    assert [(each["template"], each["built_in"]) for each in listed] == [
        *((f"{name}@1", True) for name in BUILT_IN),
        ("shop@3", False),
    ]


def test_a_number_is_never_given_twice(service: Service) -> None:
    put(service)
    assert call(service, "DELETE", "/templates/shop").status_code == 204
    for method, path in (("GET", "/templates/shop"), ("GET", "/templates/shop@1"), ("DELETE", "/templates/shop")):
        assert call(service, method, path).json()["code"] == "template_not_found"
    assert submit(service, operations=None, template="shop@1").json()["code"] == "unknown_template"
    assert put(service).json()["version"] == 2
    assert call(service, "GET", "/templates/shop@1").status_code == 404


def test_versions_that_are_stored_at_the_same_time_have_their_own_numbers(database: Database) -> None:
    def store(number: int) -> int:
        definition = Definition(operations=[{"op": "resize", "width": number}], params={})
        with database.session(tenant=DEFAULT_TENANT) as session:
            return templates.put(session, "shop", definition)[0].version

    assert sorted(in_parallel([lambda number=number: store(number) for number in range(1, 7)])) == [*range(1, 7)]


@ON_SQLITE
def test_there_may_be_only_so_many(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_TEMPLATES", 1)
    monkeypatch.setattr(templates, "MAX_VERSIONS", 1)
    put(service)
    for answer in (put(service, tree({}, "flip")), put(service, name="other")):
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (422, "too_many_templates", 1)
    call(service, "DELETE", "/templates/shop")
    assert put(service, name="other").status_code == 201


@ON_SQLITE
def test_those_that_come_with_pixtools_are_right_and_stay(service: Service) -> None:
    for name, (operations, params) in BUILT_IN.items():
        templates.check(Definition(operations=operations, params=params), LIMITS)
        for method in ("PUT", "DELETE"):
            answer = call(service, method, f"/templates/{name}", json=SHOP if method == "PUT" else None)
            assert (answer.status_code, answer.json()["code"]) == (409, "built_in_template")
    assert put(service, name="-").json()["code"] == "invalid_template"


# -- what is refused when it is stored ---------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown parameter": (tree({}, RESIZE), ["#/operations/0/width/param"]),
    "unused parameter": (tree({"width": WIDTH, "other": WIDTH}, RESIZE), ["#/params/properties/other"]),
    "no place": (
        tree({"width": WIDTH}, RESIZE, {"op": "resize", "width": {"param": "width", "default": 3}}),
        ["#/operations/1/width"],
    ),
    "unknown operation": (tree({}, "explode"), ["#/operations/0/op"]),
    "a tree that is wrong whatever is chosen": (
        tree({"width": WIDTH}, {**RESIZE, "fit": "sideways"}),
        ["#/operations/0/fit"],
    ),
    "a default that no operation takes": (
        tree({"width": {"type": "integer", "default": 0}}, RESIZE),
        ["#/operations/0/width"],
    ),
    "bounds that no operation takes": (
        tree({"width": {"type": "integer", "maximum": 0, "minimum": -5}}, RESIZE),
        ["#/operations/0/width"],
    ),
    "pattern": (tree({"width": {**WIDTH, "pattern": "a+"}}, RESIZE), [f"{PLACE}/pattern"]),
    "reference": (tree({"width": {"$ref": "#"}}, RESIZE), [f"{PLACE}/type"]),
    "a keyword of another type": (
        tree({"width": {"type": "string", "minimum": 1}}, RESIZE),
        [f"{PLACE}/minimum"],
    ),
    "a default of another type": (
        tree({"width": {"type": "integer", "default": "a"}}, RESIZE),
        [f"{PLACE}/default"],
    ),
    "a default beyond the maximum": (tree({"width": {**WIDTH, "default": 5000}}, RESIZE), [f"{PLACE}/default"]),
    "true is not a number": (tree({"width": {"type": "integer", "default": True}}, RESIZE), [f"{PLACE}/default"]),
    "minimum above maximum": (tree({"width": {**WIDTH, "minimum": 4000}}, RESIZE), [f"{PLACE}/minimum"]),
    "enum of another type": (tree({"width": {"type": "integer", "enum": [1, "2"]}}, RESIZE), [f"{PLACE}/enum"]),
    "unknown keyword of the whole": (
        {**tree({"width": WIDTH}, RESIZE), "params": {"properties": {"width": WIDTH}, "additionalProperties": True}},
        ["#/params/additionalProperties"],
    ),
    "required but not there": (
        {**tree({"width": WIDTH}, RESIZE), "params": {"properties": {"width": WIDTH}, "required": ["height"]}},
        ["#/params/required/0"],
    ),
    "a name that is none": (tree({"a b": WIDTH}, RESIZE), ["#/params/properties/a b"]),
    "several at once": (
        tree({"width": WIDTH, "other": WIDTH}, RESIZE, {"op": "resize", "height": {"param": "height"}}),
        ["#/operations/1/height/param", "#/params/properties/other"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_template_that_is_wrong_is_refused_where_it_is(case: str) -> None:
    body, pointers = WRONG[case]
    with pytest.raises(templates.InvalidTemplate) as caught:
        templates.check(Definition(**body), LIMITS)
    assert [mistake["pointer"] for mistake in caught.value.extra["errors"]] == pointers


@ON_SQLITE
def test_what_is_deep_or_no_json_is_refused(service: Service) -> None:
    deep = '{"operations": ' + "[" * 500 + "]" * 500 + "}"
    for body in (
        deep,
        '{"operations": ["\\ud800"]}',
        '{"operations": [{"op": "blur", "sigma": NaN}]}',
        '{"operations": []}',
    ):
        answer = call(service, "PUT", "/templates/shop", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"].startswith("#/operations")


@pytest.mark.parametrize(
    "body",
    [
        SHOP,
        tree({"caption": {"type": "string", "maxLength": 20}}, {"op": "watermark", "text": {"param": "caption"}}),
        tree({"background": {"type": "string"}}, {"op": "rotate", "angle": 3, "background": {"param": "background"}}),
        tree({"width": WIDTH, "height": {"type": "integer"}}, {**RESIZE, "height": {"param": "height"}}),
        tree({"x": {"type": "number", "minimum": 0, "maximum": 1}}, {**FIXED, "focal_point": [{"param": "x"}, 0.5]}),
        tree({"keep": {"type": "boolean"}}, {**FIXED, "keep": {"param": "keep"}, "then": ["flip"]}),
    ],
)  # fmt: skip
def test_what_some_choice_makes_right_is_taken(body: dict[str, Any]) -> None:
    templates.check(Definition(**body), LIMITS)


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_keeps_the_tree_that_came_of_its_template(service: Service, database: Database) -> None:
    put(service)
    job = accepted(service, operations=None, template="shop", params={"format": "convert_jpeg", "width": 64})
    expected = [{"op": "resize", "width": 64, "then": [{"op": "convert_jpeg", "as": "hero"}]}]
    assert (job["template"], job["operations"]) == ("shop@1", expected)
    put(service, tree({}, "flip"))
    assert accepted(service, operations=None, template="shop")["operations"] == ["flip"]
    old = accepted(service, operations=None, template="shop@1", params={"format": "convert_webp"})
    assert old["operations"][0]["width"] == 320, "the default"
    call(service, "DELETE", "/templates/shop")
    assert job_of(database, UUID(job["id"])).operations == expected
    parse_tree(json.dumps(job["operations"]), LIMITS)


@ON_SQLITE
@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"template": "shop", "params": {}}, "invalid_parameter", "#/params/format"),
        ({"template": "shop", "params": {"format": "convert_gif"}}, "invalid_parameter", "#/params/format"),
        ({"template": "shop", "params": {**WEBP, "width": 9999}}, "invalid_parameter", "#/params/width"),
        ({"template": "shop", "params": {**WEBP, "width": True}}, "invalid_parameter", "#/params/width"),
        ({"template": "shop", "params": {"format": "convert_webp", "size": 1}}, "invalid_parameter", "#/params/size"),
        ({"template": "shop", "params": [1]}, "invalid_parameter", "#/params"),
        ({"template": "shop", "params": '{"a": 1, "a": 2}'}, "invalid_parameter", "#/params"),
        ({"template": "none"}, "unknown_template", "#/template"),
        ({"template": "shop", "operations": ["flip"]}, "invalid_parameter", "#/template"),
        ({"operations": ["flip"], "params": {"a": 1}}, "invalid_parameter", "#/params"),
        ({}, "missing_field", "#/operations"),
        ({"template": "text", "params": {"caption": "\U000e0fff"}}, "invalid_parameter", "#/params/caption"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_what_does_not_fit_is_pointed_at_in_what_was_sent(
    service: Service, fields: dict[str, Any], code: str, pointer: str
) -> None:
    put(service)
    put(service, tree({"caption": {"type": "string"}}, {"op": "watermark", "text": {"param": "caption"}}), name="text")
    answer = submit(service, **{"operations": None, **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


@ON_SQLITE
def test_a_repeat_is_told_by_what_was_sent(service: Service) -> None:
    put(service)
    fields: dict[str, Any] = {"operations": None, "template": "shop", "params": {"format": "convert_webp"}}
    headers = {"Idempotency-Key": "one"}
    first = submit(service, headers=headers, **fields).json()
    put(service, {**SHOP, "operations": [*SHOP["operations"], "flip"]})
    again = submit(service, headers=headers, **fields)
    assert (again.headers["Idempotent-Replayed"], again.json()["id"]) == ("true", first["id"]), "the same words"
    other = submit(service, headers=headers, **{**fields, "params": {"format": "convert_jpeg"}})
    assert other.json()["code"] == "idempotency_key_reused"


@ON_SQLITE
def test_built_in_templates_run_with_their_defaults(service: Service) -> None:
    avatar = accepted(service, operations=None, template="avatar", params={"size": 64, "format": "convert_png"})
    assert avatar["template"] == "avatar@1"
    assert [step["op"] for step in avatar["steps"]] == ["resize", "convert_png"]
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
    body = {"input": {"url": pixel}, "template": "thumbnails", "params": {"large": 1600}}
    thumbnails = call(service, "POST", "/process", json=body).json()
    assert [branch["width"] for branch in thumbnails["operations"]] == [160, 480, 1600]


# -- tenants -----------------------------------------------------------------------------------------------------------


def test_templates_belong_to_their_tenants(service: Service, ann: Belongings, bob: Belongings) -> None:
    put(service, name="own", key=ann.key)
    assert call(service, "GET", "/templates/own", bob.key).status_code == 404
    assert submit(service, bob.key, operations=None, template="own").json()["code"] == "unknown_template"
    assert put(service, tree({}, "flip"), name="own", key=bob.key).json()["version"] == 1
    assert call(service, "DELETE", "/templates/own", bob.key).status_code == 204
    assert call(service, "GET", "/templates/own", ann.key).json()["operations"] == SHOP["operations"]


@ON_SQLITE
def test_a_tenant_can_be_held_to_templates(service: Service, database: Database, pixtools: Run) -> None:
    key = new_key(database, DEFAULT_TENANT)
    shown = pixtools("tenants", "set", DEFAULT_TENANT, "--templates-only", "yes").output
    if "templates_only       yes" not in shown:  # the command works on the data folder, and this is another database
        change(database, update(TenantRecord).values(templates_only=True))
    for fields in ({"operations": ["flip"]}, {"operations": None}):
        refused = submit(service, key, **fields)
        assert (refused.status_code, refused.json()["code"]) == (403, "templates_only")
    put(service, tree({}, "flip"), key=key)
    accepted(service, key, operations=None, template="shop")
    change(database, update(TenantRecord).values(templates_only=False))


def test_changes_are_in_the_audit_log_and_usage_has_the_version(
    service: Service, database: Database, ann: Belongings
) -> None:
    for _ in range(2):
        put(service, tree({}, "flip"), key=ann.key)
    job = accepted(service, ann.key, operations=None, template="shop")
    call(service, "DELETE", "/templates/shop", ann.key)
    run_task(database, UUID(job["id"]), "0")
    with database.session() as session:
        events.number(session)
        usage.aggregate(session)
        entries = session.execute(select(AuditEntry.action, AuditEntry.subject).where(AuditEntry.tenant == "ann"))
        shown = [tuple(entry) for entry in entries if entry.subject.startswith("shop")]
        assert sorted(shown) == [("template.deleted", "shop"), ("template.stored", "shop@1")]
        assert "shop@1" in session.scalars(select(UsageDay.template).where(UsageDay.tenant == "ann")).all()
        assert session.scalars(select(TemplateVersion).where(TemplateVersion.name == "shop")).all() == []


@ON_SQLITE
def test_storing_needs_its_scope(service: Service, database: Database) -> None:
    key = new_key(database, DEFAULT_TENANT, frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    assert put(service, key=key).json()["code"] == "missing_scope"
    assert call(service, "GET", "/templates", key).status_code == 200


@ON_SQLITE
def test_a_template_says_where_results_are_written_to(service: Service) -> None:
    output = {"store": {"param": "store"}, "key": "{input.stem}/{name}.{ext}"}
    body = {**tree({"store": {"type": "string"}}, "flip"), "output": output}
    body["params"]["required"] = ["store"]
    assert put(service, body).status_code == 201
    answer = submit(service, operations=None, template="shop", params={"store": "none"})
    assert answer.json()["errors"][0]["pointer"] in {"#/output/store", "#/params/store"}, "no such store"
    wrong = put(service, {**body, "output": {**output, "key": "{nothing}"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "#/output/key")
