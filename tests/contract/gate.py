"""Holds the API against that of the last release: `python -m tests.contract.gate`, as `make check` does.

What clients of `baseline.jsonl` rely on must still be there, except what `accepted-breaks.toml` gives up with a reason.
A release makes its own API the next baseline, and the accepted breaks are done with: `make api-baseline`.
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
# Breaks of the API since the last release that are meant. One entry for each, as `make check` writes it, with the
# reason that users get: it goes into CHANGELOG.md as well. `make api-baseline` empties this file at a release.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.gate", description=__doc__)
    parser.add_argument("--release", action="store_true", help="Make the API of now the baseline.")
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
    """The API of this tree, as `/openapi.json` answers it."""
    from app.main import create_app

    return create_app().openapi()


def as_text(document: Document) -> str:
    """The document as a file: a line for each path and for each component, without what is for people."""
    paths, schemas = document["paths"], document["components"]["schemas"]
    parts = {**document, "paths": {}, "components": {**document["components"], "schemas": {}}}
    lines = [json.dumps(_bare(parts), ensure_ascii=False)]
    for kind, members in (("paths", paths), ("schemas", schemas)):
        lines += [json.dumps([kind, name, _bare(each)], ensure_ascii=False) for name, each in members.items()]
    return "\n".join(lines) + "\n"


def from_text(text: str) -> Document:
    """The document of such a file."""
    first, *lines = (json.loads(line) for line in text.splitlines())
    places = {"paths": first["paths"], "schemas": first["components"]["schemas"]}
    for kind, name, each in lines:
        places[kind][name] = each
    return cast("Document", first)


def _bare(value: Any) -> Any:
    """A part of the document without its texts; a member of that name is a schema, and no text."""
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
    """Rules and places of the breaks that are meant.

    Raises:
        ValueError: one has no reason.
    """
    entries: Sequence[dict[str, Any]] = tomllib.loads(file.read_text()).get("accepted", [])
    for entry in entries:
        if set(entry) != {"rule", "where", "reason"} or not entry["reason"].strip():
            raise ValueError(f"{file.name}: an entry has a `rule`, a `where` and a `reason`: {entry}")
    return [(entry["rule"], entry["where"]) for entry in entries]


def verdict(before: Document, after: Document, meant: Sequence[tuple[str, str]]) -> Sequence[str]:
    """What is wrong, for people: each break that is not meant, and each that is meant and is none."""
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
    return f"{found}\n  If it is meant, say why in tests/contract/{ACCEPTED.name}:\n    [[accepted]]\n" + "".join(
        f"    {line}\n" for line in (*entry, 'reason = "…"')
    )


if __name__ == "__main__":
    sys.exit(main())
