"""The OpenAPI document, `/openapi.json`: that of FastAPI, with additions for all routes."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from app.routers import openapi, tree_schema
from app.routers.problem_schema import Problem

TAGS = [
    {"name": "jobs", "description": "Images in, results out."},
    {"name": "operations", "description": "What a tree may hold."},
    {"name": "templates", "description": "Trees under a name, with parameters."},
    {"name": "assets", "description": "Images and fonts that trees name."},
    {"name": "stores", "description": "Buckets that jobs take their inputs from."},
    {"name": "webhooks", "description": "Receivers of events, and their deliveries."},
    {"name": "keys", "description": "Who may do what."},
    {"name": "accounts", "description": "What a tenant has used, and who has done what."},
    {"name": "health", "description": "For probes, dashboards and alerts."},
]
FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")  # schemas of responses that PixTools never sends


def operation_id(route: APIRoute) -> str:
    """The name of the route's function, from which generators of clients derive the names of methods."""
    return route.name


class Api(FastAPI):
    """A FastAPI application with the completed document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _complete(super().openapi())
        return super().openapi()


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in FASTAPIS_OWN:
        schemas.pop(name, None)
    problem = TypeAdapter(Problem).json_schema(ref_template=tree_schema.REFERENCE)
    schemas |= {**problem.pop("$defs"), "Problem": problem, **tree_schema.components()}
    schemas["JobView"]["properties"]["operations"] = {
        "$ref": tree_schema.REFERENCE.format(model=tree_schema.TREE),
        "description": "The tree as it was sent.",
    }
    for path in document["paths"].values():
        for method, operation in path.items():
            _add_problems(method, operation)


def _add_problems(method: str, operation: dict[str, Any]) -> None:
    """Add the problems with which any request, change, or request with a JSON body can be answered."""
    statuses = [*openapi.EVERYWHERE]
    if method != "get":
        statuses += openapi.CHANGES
    if "security" in operation:
        statuses += openapi.WITH_KEY
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        statuses += openapi.JSON_BODY
    responses = operation["responses"]
    responses.pop("422", None)
    for status in statuses:
        described = openapi.problem(status)
        content = responses.setdefault(str(status), described).setdefault("content", {})
        content |= described["content"] | content
    operation["responses"] = dict(sorted(responses.items()))
