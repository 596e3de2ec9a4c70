"""The files that a command works on: which files the arguments name, and where the results of each go."""

import glob
import hashlib
import json
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import typer

#: suffixes of the files that are sent from a folder; a file that is named in the arguments may have any suffix
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"})
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """One image, to send or to be fetched by the server."""

    #: name under which the file is sent
    name: str
    #: None: the image is `content`, or at `url`
    path: Path | None
    #: folder of its results, below the folder of all results
    folder: Path = Path()
    content: bytes = b""
    #: replaces the file's stem in the names of its results, if another file has the same stem
    stem: str = ""
    #: empty: the image is sent
    url: str = ""

    @classmethod
    def of(cls, path: Path, folder: Path = Path()) -> "Input":
        """A file under a name that the server takes."""
        from pixtools_client.protocol import sendable

        return cls(sendable(path.name), path, folder)

    @property
    def shown(self) -> str:
        """The name to show; the query of a URL may be a secret."""
        return str(self.path or self.url.partition("?")[0] or self.name)

    @property
    def source(self) -> str | Path | bytes:
        """The image in the form that the client takes."""
        return self.url or self.path or self.content

    def read(self) -> bytes:
        return self.path.read_bytes() if self.path else self.content

    def renamed(self, filename: str) -> str:
        """The name of the file for a result."""
        stem = Path(self.name).stem
        return self.stem + filename.removeprefix(stem) if self.stem and filename.startswith(stem) else filename


def inputs_of(arguments: Sequence[str]) -> list[Input]:
    """Every file that the arguments name, each once; a file that does not exist too, for a failure under its name.

    Raises:
        BadParameter: none of the files exists, or a name is empty.
    """
    if "" in arguments:  # such as a variable of a shell that is not set; as a path, this would be the current folder
        raise typer.BadParameter("The name of a file is empty.")
    if arguments and all(map(_is_missing, arguments)):
        raise typer.BadParameter(" ".join(map(_absence, arguments)))
    found: dict[Path | str, Input] = {}
    for argument in arguments:
        for each in _of(argument):
            found.setdefault(each.path.resolve() if each.path else each.url or each.name, each)
    return list(_apart(found.values()))


def one_input(argument: str) -> Input:
    """The only image that an argument names.

    Raises:
        BadParameter: the argument names no image, or several.
    """
    inputs = inputs_of([argument])
    if len(inputs) != 1 or is_folder(argument):
        raise typer.BadParameter(f"{argument} is not a single file: use `pixtools run` for several files.")
    return inputs[0]


def _of(argument: str) -> Iterator[Input]:
    if argument == STANDARD_INPUT:
        content = sys.stdin.buffer.read()
        if not content:
            raise typer.BadParameter("Standard input is empty.")
        yield Input("stdin", None, content=content)
        return
    if "://" in argument:
        yield Input(_name_in(argument), None, url=argument)
        return
    path = Path(argument)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        yield from in_folder(path)
    elif stat.S_ISREG(mode):
        yield Input.of(path)
    elif mode:  # /dev/stdin, a pipe
        yield Input(path.name, None, content=path.read_bytes())
    else:
        yield from map(Input.of, _matches(argument) or [Path(argument)])


def _name_in(url: str) -> str:
    """The name that the server gives to a file that it fetches from a URL.

    Raises:
        BadParameter: the text is not a URL.
    """
    try:
        return PurePosixPath(unquote(urlsplit(url).path)).name or "image"
    except ValueError as error:
        raise typer.BadParameter(f"{url}: {error}.") from None


def is_folder(argument: str) -> bool:
    """Whether an argument names a folder."""
    return stat.S_ISDIR(_mode(Path(argument)))


def _mode(path: Path) -> int:
    """The type and the permissions of a file; 0: there is none, or its name is too long."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_missing(argument: str) -> bool:
    is_path = argument != STANDARD_INPUT and "://" not in argument
    return is_path and not _mode(Path(argument)) and not _matches(argument)


def _absence(argument: str) -> str:
    return f"{argument} {'matches no file' if glob.has_magic(argument) else 'does not exist'}."


def _matches(pattern: str) -> list[Path]:
    """The files that a pattern matches."""
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute ones as well
    return [path for path in paths if path.is_file()]


def in_folder(folder: Path) -> Iterator[Input]:
    """The images in a folder and those below it."""
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield Input.of(path, below.parent)


def _apart(inputs: Iterable[Input]) -> Iterator[Input]:
    """Give all results different names: files with equal stems get their suffix added, files with equal names their
    folder."""
    all_ = list(inputs)
    names = Counter((each.folder, each.name) for each in all_)
    all_ = [_in_own_folder(each) if names[each.folder, each.name] > 1 else each for each in all_]
    names = Counter((each.folder, each.name) for each in all_)
    twice = next((name for (_, name), number in names.items() if number > 1), None)
    if twice:
        raise typer.BadParameter(f"Two files are called {twice}, in folders with equal names: use two commands.")
    stems = Counter((each.folder, Path(each.name).stem) for each in all_)
    for each in all_:
        one_of_several = stems[each.folder, Path(each.name).stem] > 1
        stem = each.name.replace(".", "_") if one_of_several else ""
        yield replace(each, stem=stem)


def _in_own_folder(each: Input) -> Input:
    return replace(each, folder=each.folder / _above(each)) if each.path or each.url else each


def _above(each: Input) -> str:
    """The folder that a file is in, or the host that a URL names."""
    if each.path:
        return each.path.resolve().parent.name
    above = PurePosixPath(unquote(urlsplit(each.url).path)).parent.name
    return above if above.strip(".") else urlsplit(each.url).hostname or ""


def operations_of(text: str) -> str:
    """The tree as JSON text, from JSON, names separated by commas, or `@file`.

    Raises:
        BadParameter: the text is not JSON, or the file cannot be read.
    """
    given = text
    if text.startswith("@"):
        try:
            given = Path(text[1:]).read_text()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "the file is not text in UTF-8"
            raise typer.BadParameter(f"{text[1:]}: {reason}.") from None
    given = given.strip()
    if not given.startswith(("[", "{", '"')):
        return json.dumps([name.strip() for name in given.split(",") if name.strip()])
    try:
        tree = json.loads(given)
    except ValueError as error:
        raise typer.BadParameter(f'The operations are not valid JSON: {error}. Example: ["convert_webp"]') from None
    return json.dumps(tree if isinstance(tree, list) else [tree])


def json_of(file: str) -> Any:
    """The JSON in a file, or on standard input.

    Raises:
        BadParameter: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}.") from None
    except ValueError as error:  # its message does not quote the text, which may be a secret
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None


def key_of(content: bytes, fields: dict[str, Any]) -> str:
    """The idempotency key of a file and its operations: an equal request is the same job."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    digest.update(hashlib.sha256(content).digest())
    return f"pixtools-run-{digest.hexdigest()[:40]}"


@dataclass
class Journal:
    """The files that earlier runs into this folder have finished; they are not sent again."""

    file: Path
    #: entries by the keys of the files
    _known: dict[str, "Entry"] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Journal":
        journal = cls(folder / ".pixtools-run.jsonl")
        try:
            lines = journal.file.read_text().splitlines()
        except OSError:
            return journal
        for line in lines:
            try:
                entry = json.loads(line)
                journal._known[entry["key"]] = Entry(entry["files"], entry.get("bytes", 0), entry.get("job"))
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off when a run was killed
        return journal

    def finished(self, key: str) -> tuple[list[Path], "Entry"] | None:
        """The results of a finished file, if they all still exist as they were written, and the entry."""
        known = self._known.get(key)
        if known is None:
            return None
        paths = {self.file.parent / name: sha256 for name, sha256 in known.files.items()}
        whole = all(path.is_file() and _sha256(path) == sha256 for path, sha256 in paths.items())
        return (list(paths), known) if whole else None

    def note(self, key: str, files: dict[Path, str], size: int, job_id: str | None) -> None:
        named = {str(path.relative_to(self.file.parent)): sha256 for path, sha256 in files.items()}
        line = json.dumps({"key": key, "files": named, "bytes": size, "job": job_id})
        self.file.parent.mkdir(parents=True, exist_ok=True)  # a job may have no result
        with self.file.open("a") as file:
            file.write(f"{line}\n")  # one short write: lines of threads stay whole


@dataclass(frozen=True)
class Entry:
    """The journal's record of one finished file."""

    #: checksums of the results by their names
    files: dict[str, str]
    #: size of the image in bytes
    size: int
    #: id of the job; None: an older version wrote this entry
    job_id: str | None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
