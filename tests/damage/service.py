"""What the service answers to a file: the check of its header as the API does it, then trees in a pixel process."""

import io
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidUpload, PixToolsError
from app.imaging.probe import probe
from app.imaging.recipe import Limits, Stage, Target
from app.services.execution.sandbox import Sandbox

COMPLETED = "completed"
CORRUPT = {"corrupt_image", "truncated_image", "unsupported_image"}  # codes that say the file is to blame
LIMITS = Limits(pixels=50_000_000, side=16384)
SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Tree:
    """Operations that a file goes through."""

    name: str
    stages: tuple[Stage, ...]
    target: str
    #: whether only the first frame of an animation is read
    first: bool


TREES = (
    Tree("convert_webp", (), "convert_webp", first=False),
    Tree("resize to a quarter, convert_png", (Stage("resize", {"width": 24}),), "convert_png", first=True),
    Tree("resize to half, convert_webp", (Stage("resize", {"width": 48}),), "convert_webp", first=False),
)


@dataclass(frozen=True)
class Answer:
    """`completed` with a result, or the code of an error."""

    status: str
    result: bytes = b""


def answer(sandbox: Sandbox, content: bytes, tree: Tree, folder: Path) -> Answer:
    try:
        probe(io.BytesIO(content))
    except InvalidUpload as error:
        return Answer(error.code)
    source = folder / "source"
    source.write_bytes(content)
    try:
        target = Target(folder / "result", tree.target, {})
        sandbox.render(source, list(tree.stages), [target], LIMITS, SECONDS)
    except PixToolsError as error:
        return Answer(error.code)
    return Answer(COMPLETED, target.path.read_bytes())
