"""What schemathesis cannot make by itself: operation trees as text in a form, and addresses that may be called here."""

import json
import os
from collections import Counter
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies as st

from app.operations import OPERATIONS, Operation

TREE, ADDRESS = "operation-tree", "loopback-address"
SHARE = int(os.environ.get("CONTRACT_SHARE", "1"))  # of the phase `coverage` one case in so many is sent
#: operations with the most rules, of which alone a sample makes cases
SAMPLED = ("ResizeOperation", "ConvertJpegOperation", "WatermarkOperation", "WebOperation")


def _node(operation: Operation, then: list[Any], keep: bool) -> Any:
    node = {"op": operation.name, **operation.example}
    if not operation.gives_image:
        return node
    return {**node, **({"keep": keep} if keep else {}), **({"then": then} if then else {})}


ENTRIES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["convert_webp", "convert_png", "flip", "metadata", "denoise"]),
    lambda entries: st.builds(
        _node, st.sampled_from(list(OPERATIONS.values())), st.lists(entries, max_size=2), st.booleans()
    ),
    max_leaves=5,
)
# No server listens there, so that deliveries fail and are tried again
ADDRESSES = st.builds("http://127.0.0.{}:{}/hooks".format, st.integers(1, 254), st.integers(1, 9))

schemathesis.openapi.format(TREE, st.lists(ENTRIES, min_size=1, max_size=3).map(json.dumps))
schemathesis.openapi.format(ADDRESS, ADDRESSES)


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Ask for both by format, in what is sent; answers are held against the description as it is."""
    for path in ("/process", "/plan"):
        content = raw_schema["paths"][path]["post"]["requestBody"]["content"]
        body = content["application/json"]["schema"]["properties"]
        body["input"]["oneOf"][0]["properties"]["url"] = {"type": "string", "format": ADDRESS}
        body["webhook_url"] = {"type": "string", "format": ADDRESS}
        form = content["multipart/form-data"]["schema"]
        form["properties"]["operations"] = {"type": "string", "format": TREE}
        form["properties"]["webhook_url"] = {"anyOf": [{"type": "string", "format": ADDRESS}, {"const": ""}]}
    schemas = raw_schema["components"]["schemas"]
    schemas["NewEndpoint"]["properties"]["url"] = {"type": "string", "format": ADDRESS}
    schemas["NewStore"]["properties"]["url"] = {"type": "string", "pattern": "^file:///[a-z]+$"}  # none that exists
    schemas["EndpointChange"]["properties"]["url"]["anyOf"][0] = {"type": "string", "format": ADDRESS}
    if SHARE > 1:  # the cases of each operation take as long to make as all others, whether they are sent or not
        sampled = [{"$ref": f"#/components/schemas/{name}"} for name in SAMPLED]
        schemas["OperationEntry"]["anyOf"][1] = {"oneOf": sampled}


_covered: Counter[str] = Counter()  # cases by operation


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Sample the phase `coverage`, which is by far the longest; of every operation at least the first case is sent."""
    if case.meta is None or case.meta.phase.name.value != "coverage":
        return True
    number = _covered[case.operation.label]
    _covered[case.operation.label] += 1
    return number == 0 or crc32(f"{case.operation.label} {number}".encode()) % SHARE == 0
