"""The part of a Kubernetes API server that `kubectl apply --dry-run=server` needs: kinds and their schemas.

It refuses unknown fields, wrong types and values outside of enumerations. It has no defaults, no admission control, and
no rules about several fields.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft202012Validator

from .receiver import HttpServer

CLUSTER_WIDE = {"Namespace", "PriorityClass"}  # the built-in kinds without a namespace
KIND = "x-kubernetes-group-version-kind"
Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of objects."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool
    validator: Draft202012Validator

    @property
    def api(self) -> str:
        """The path of the group and the version."""
        return f"apis/{self.group}/{self.version}" if self.group else f"api/{self.version}"

    def errors(self, manifest: Any) -> list[str]:
        return [
            f"{'.'.join(map(str, error.absolute_path)) or 'the object'}: {error.message[:200]}"
            for error in self.validator.iter_errors(manifest)
        ]


def kinds(definitions: Path, custom: Iterator[Path]) -> list[Kind]:
    """The built-in kinds from `_definitions.json` of kubernetes-validate, and those of CRDs."""
    text = definitions.read_text()
    return [*_built_in(json.loads(text)["$defs"]), *(kind for path in custom for kind in _custom(path))]


def _built_in(definitions: Json) -> Iterator[Kind]:
    for full_name, schema in definitions.items():
        for named in schema.get(KIND, ()):
            name = named["kind"]
            if full_name.endswith(f".{name}") and "metadata" in schema.get("properties", {}):
                validator = Draft202012Validator({"$ref": f"#/$defs/{full_name}", "$defs": definitions})
                yield Kind(named["group"], named["version"], name, _plural(name), name not in CLUSTER_WIDE, validator)


def _plural(name: str) -> str:
    lower = name.lower()
    if lower.endswith("y"):
        return f"{lower[:-1]}ies"
    return f"{lower}es" if lower.endswith("s") else f"{lower}s"


def _custom(path: Path) -> Iterator[Kind]:
    spec = yaml.safe_load(path.read_text())["spec"]
    for version in spec["versions"]:
        schema = _closed(deepcopy(version["schema"]["openAPIV3Schema"]))
        schema["properties"]["metadata"] = {"type": "object"}
        names = spec["names"]
        yield Kind(
            *(spec["group"], version["name"], names["kind"], names["plural"], spec["scope"] == "Namespaced"),
            validator=Draft202012Validator(schema),
        )


def _closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as by an API server with strict validation."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.pop("x-kubernetes-int-or-string", False):
        closed = {"type": ["integer", "string"]}
    return closed


class Handler(BaseHTTPRequestHandler):
    """Answers discovery, and validates objects without storing them."""

    protocol_version = "HTTP/1.1"
    known: list[Kind]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        found = self._discovery(path)
        if found is None:
            self._refuse(404, "NotFound", f"there is no {path}")
        else:
            self._answer(200, found)

    def do_POST(self) -> None:
        manifest = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self._kind(urlsplit(self.path).path.strip("/"))
        if kind is None:
            self._refuse(404, "NotFound", "there is no such kind")
        elif "dryRun=All" not in self.path:
            self._refuse(405, "MethodNotAllowed", "only dry runs")
        elif errors := kind.errors(manifest):
            name = manifest["metadata"]["name"]
            self._refuse(422, "Invalid", f'{kind.name} "{name}" is invalid: {"; ".join(errors)}')
        else:
            self._answer(201, manifest)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _discovery(self, path: str) -> Json | None:
        apis = sorted({kind.api for kind in self.known})
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups(self.known)}
        if path == "openapi/v3":
            return {"paths": {api: {"serverRelativeURL": f"/openapi/v3/{api}"} for api in apis}}
        own = [kind for kind in self.known if kind.api == path.removeprefix("openapi/v3/")]
        if not own:
            return None
        return _resources(own) if path in apis else _openapi(own)

    def _kind(self, path: str) -> Kind | None:
        """The kind of objects at a path, e.g. `api/v1/namespaces/pixtools/services`."""
        return next(
            (kind for kind in self.known if path.startswith(f"{kind.api}/") and path.endswith(f"/{kind.plural}")), None
        )

    def _refuse(self, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
        self._answer(code, {**status, "reason": reason, "message": message, "code": code})

    def _answer(self, code: int, body: Mapping[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


def _groups(known: list[Kind]) -> list[Json]:
    versions: dict[str, set[str]] = {}
    for kind in known:
        if kind.group:
            versions.setdefault(kind.group, set()).add(kind.version)
    return [_group(name, sorted(found, key=_stability)) for name, found in versions.items()]


def _group(name: str, versions: list[str]) -> Json:
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def _stability(version: str) -> tuple[bool, bool, str]:
    return "alpha" in version, "beta" in version, version


def _openapi(known: list[Kind]) -> Json:
    """An OpenAPI document, in which kubectl looks for support of dry runs and strict validation."""
    parameters = [{"name": name, "in": "query"} for name in ("dryRun", "fieldValidation", "fieldManager")]
    paths = {}
    for kind in known:
        named = {"group": kind.group, "version": kind.version, "kind": kind.name}
        operation = {KIND: named, "parameters": parameters, "responses": {}}
        within = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"/{kind.api}{within}/{kind.plural}"] = {"post": operation}
        paths[f"/{kind.api}{within}/{kind.plural}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "1"}, "paths": paths}


def _resources(known: list[Kind]) -> Json:
    resources = [
        {
            "name": kind.plural,
            "singularName": kind.name.lower(),
            "kind": kind.name,
            "namespaced": kind.namespaced,
            "verbs": ["create", "get", "patch"],
        }
        for kind in known
    ]
    version = known[0].api.split("/", 1)[1]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


@contextmanager
def api_server(known: list[Kind]) -> Iterator[str]:
    """Run a server with these kinds; yields its URL."""
    handler = type("KnownHandler", (Handler,), {"known": known})
    server = HttpServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
