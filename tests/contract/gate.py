"""Compares the API with that of the last release: `python -m tests.contract.gate`, as `make check` does.

Everything that clients of `baseline.jsonl` rely on must still be there, except the breaks that `accepted-breaks.toml`
lists with a reason. `make api-baseline` at a release makes the current API the next baseline and empties that list.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tests.contract.breaks import breaks_between
from tests.contract.schema_breaks import Break, Document

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.jsonl"
ACCEPTED = HERE / "accepted-breaks.toml"
HEAD = """\
# Intended breaks of the API since the last release. Each has an entry, as `make check` prints it, with a reason for
# users, which also goes into CHANGELOG.md. `make api-baseline` empties this file at a release.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.gate", description=__doc__)
    parser.add_argument("--release", action="store_true", help="Make the current API the baseline.")
    arguments = parser.parse_args()
    now = description()
    mistakes = list(verdict(from_text(BASELINE.read_text()), now, accepted(ACCEPTED)))
    for mistake in mistakes:
        print(mistake)
    if arguments.release and not mistakes:
        BASELINE.write_text(as_text(now))
        ACCEPTED.write_text(HEAD)
    return len(mistakes) > 0


def description() -> Document:
    """The current API, as `/openapi.json` describes it."""
    from app.main import app

    return app.openapi()


def as_text(document: Document) -> str:
    """The document as the text of a file: a line for each path and each component, without descriptions."""
    paths, schemas = document["paths"], document["components"]["schemas"]
    parts = {**document, "paths": {}, "components": {**document["components"], "schemas": {}}}
    lines = [json.dumps(_bare(parts), ensure_ascii=False)]
    for kind, members in (("paths", paths), ("schemas", schemas)):
        lines += [json.dumps([kind, name, _bare(each)], ensure_ascii=False) for name, each in members.items()]
    return "\n".join(lines) + "\n"


def from_text(text: str) -> Document:
    """The document from the text of such a file."""
    first, *lines = (json.loads(line) for line in text.splitlines())
    places = {"paths": first["paths"], "schemas": first["components"]["schemas"]}
    for kind, name, each in lines:
        places[kind][name] = each
    return cast("Document", first)


def _bare(value: Any) -> Any:
    """A part of the document without descriptions and examples; a member with such a name is a schema and is kept."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _bare(each)
        for name, each in value.items()
        if not (name in {"description", "summary"} and isinstance(each, str))
        and not (name == "examples" and isinstance(each, list))
    }


def accepted(file: Path) -> list[tuple[str, str]]:
    """Rules and places of the accepted breaks.

    Raises:
        ValueError: an entry has no reason.
    """
    entries: Sequence[dict[str, Any]] = tomllib.loads(file.read_text()).get("accepted", [])
    for entry in entries:
        if set(entry) != {"rule", "where", "reason"} or not entry["reason"].strip():
            raise ValueError(f"{file.name}: an entry needs a `rule`, a `where` and a `reason`: {entry}")
    return [(entry["rule"], entry["where"]) for entry in entries]


def verdict(before: Document, after: Document, meant: Sequence[tuple[str, str]]) -> Sequence[str]:
    """Messages for people: each break that is not accepted, and each accepted break that does not exist."""
    breaks = breaks_between(before, after)
    found = {each.key for each in breaks}
    return [
        *(_explained(each) for each in breaks if each.key not in meant),
        *(
            f"{ACCEPTED.name}: there is no break `{rule}` at `{where}`"
            for rule, where in meant
            if (rule, where) not in found
        ),
    ]


def _explained(found: Break) -> str:
    entry = [f"{name} = {json.dumps(value)}" for name, value in zip(("rule", "where"), found.key, strict=True)]
    return (
        f"{found}\n  If it is intended, give a reason in tests/contract/{ACCEPTED.name}:\n    [[accepted]]\n"
        + "".join(f"    {line}\n" for line in (*entry, 'reason = "…"'))
    )


if __name__ == "__main__":
    sys.exit(main())
