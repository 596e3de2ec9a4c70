"""The damage trial: `python -m tests.damage [--files 200] [--seed 1] [FORMAT ...]` prints both error rates."""

import argparse
import os
from collections import Counter

from app.services.execution.sandbox import Sandbox
from tests.damage.corpus import corpus
from tests.damage.originals import FORMATS
from tests.damage.trial import Outcome, outcomes

MEMORY = 3_000_000_000  # bytes of address space of the pixel process


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=FORMATS, metavar="FORMAT")
    parser.add_argument("--files", type=int, default=200, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    wrong: list[Outcome] = []
    print("| format | files | damaged | of these completed | sound | of these refused | free |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with Sandbox(os.cpu_count() or 1, MEMORY) as sandbox:
        for format_ in arguments.formats:
            wrong += _trial(format_, arguments.files, arguments.seed, sandbox)
    for outcome in wrong:
        print(outcome)
    return 1 if wrong else 0


def _trial(format_: str, files: int, seed: int, sandbox: Sandbox) -> list[Outcome]:
    """Try one format, print its row and return what went wrong."""
    found = list(outcomes(corpus(format_, files, seed), sandbox))
    counts: Counter[str] = Counter()
    for name in ("is_damaged", "was_delivered_damaged", "is_sound", "was_refused_sound"):
        # a file counts once, however many trees it went through
        counts[name] = len({outcome.file.name for outcome in found if getattr(outcome, name)})
    free = files - len({one.file.name for one in found if one.is_damaged or one.is_sound})
    print(f"| {format_} | {files} | {' | '.join(map(str, counts.values()))} | {free} |", flush=True)
    return [one for one in found if one.was_delivered_damaged or one.was_refused_sound]


if __name__ == "__main__":
    raise SystemExit(main())
