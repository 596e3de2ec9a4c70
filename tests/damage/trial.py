"""Holds the service against the reference decoders, file by file."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.services.sandbox import Sandbox
from tests.damage.corpus import Damaged
from tests.damage.judges import Verdict, judge, shows_the_original
from tests.damage.service import COMPLETED, CORRUPT, TREES, answer

#: frames that no result shows need not be read: formats of which every tree reads the first frame alone
STILL = {"jpeg", "png", "tiff", "avif", "heic"}


@dataclass(frozen=True)
class Outcome:
    """One file in one tree."""

    file: Damaged
    tree: str
    verdict: Verdict
    #: whether frames after the first do not count
    first: bool
    answer: str

    @cached_property
    def is_damaged(self) -> bool:
        """Damage that changes no pixel is none."""
        return self.verdict.damaged and not (
            self.answer == COMPLETED
            and shows_the_original(self.file.content, self.file.original, first=self.first)
        )

    @property
    def is_sound(self) -> bool:
        return self.verdict.sound

    @property
    def was_delivered_damaged(self) -> bool:
        return self.is_damaged and self.answer == COMPLETED

    @property
    def was_refused_sound(self) -> bool:
        return self.is_sound and self.answer in CORRUPT

    def __str__(self) -> str:
        return f"{self.file.name}, {self.tree}: {self.answer}; {[text[:100] for text in self.verdict.complaints]}"


def outcomes(files: Iterable[Damaged], sandbox: Sandbox) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            judged = folder / f"judged.{file.format}"
            judged.write_bytes(file.content)
            verdicts: dict[bool, Verdict] = {}
            for tree in TREES:
                first = tree.first or file.format in STILL
                if first not in verdicts:
                    verdicts[first] = judge(file.format, judged, first=first)
                yield Outcome(file, tree.name, verdicts[first], first, answer(sandbox, file.content, tree, folder))
