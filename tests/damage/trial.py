"""Holds the service against the reference decoders, file by file."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.services.execution.sandbox import Sandbox
from tests.damage.corpus import Damaged
from tests.damage.judges import Verdict, judge
from tests.damage.service import COMPLETED, CORRUPT, TREES, Answer, Tree, answer

#: frames that no result shows need not be read: formats of which every tree reads the first frame alone
STILL = {"jpeg", "png", "tiff", "avif", "heic"}


@dataclass(frozen=True)
class Outcome:
    """One file in one tree."""

    file: Damaged
    tree: str
    #: on the whole file
    whole: Verdict
    #: on what the tree reads of it
    read: Verdict
    answer: Answer
    #: whether the result is that of the undamaged file, bit by bit
    unharmed: bool

    @property
    def is_damaged(self) -> bool:
        """Damage that changes no pixel is none."""
        return self.read.damaged and not self.unharmed

    @property
    def is_sound(self) -> bool:
        return self.whole.sound

    @property
    def was_delivered_damaged(self) -> bool:
        return self.is_damaged and self.answer.status == COMPLETED

    @property
    def was_refused_sound(self) -> bool:
        return self.is_sound and self.answer.status in CORRUPT

    def __str__(self) -> str:
        complaints = [text[:100] for text in (*self.read.complaints, self.whole.witness)]
        return f"{self.file.name}, {self.tree}: {self.answer.status}; {complaints}"


class Trial:
    """Runs files through the trees of the service."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._undamaged: dict[tuple[bytes, Tree], Answer] = {}

    def outcomes(self, file: Damaged) -> Iterator[Outcome]:
        judged = self._folder / f"judged.{file.format}"
        judged.write_bytes(file.content)
        whole = judge(file.format, judged, first=file.format in STILL)
        first = whole if file.format in STILL else judge(file.format, judged, first=True)
        for tree in TREES:
            given = answer(self._sandbox, file.content, tree, self._folder)
            unharmed = given.status == COMPLETED and given == self._of_original(file.original, tree)
            yield Outcome(file, tree.name, whole, first if tree.first else whole, given, unharmed)

    def _of_original(self, original: bytes, tree: Tree) -> Answer:
        key = original, tree
        if key not in self._undamaged:
            self._undamaged[key] = answer(self._sandbox, original, tree, self._folder)
        return self._undamaged[key]


def outcomes(files: Iterable[Damaged], sandbox: Sandbox) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(sandbox, Path(name))
        for file in files:
            yield from trial.outcomes(file)
