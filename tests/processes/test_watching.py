"""`pixtools run` for a long time: files that come later, in pieces, and again, and a server that stays away."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pixtools_client import Client, ServerAway

from app.commands.common import AWAY
from app.commands.display import Display
from app.commands.inputs import Input
from app.commands.root import _explained
from app.commands.run import CONTINUE, Run, _shown
from app.commands.watching import LOOK_SECONDS, Watch
from tests.conftest import make_photo
from tests.support.deployment import Deployment, embedded
from tests.support.processes import client_of, started, terminal
from tests.support.waiting import until


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def found(watch: Watch, clock: Clock) -> list[str]:
    """The names of the files that the next look finds."""
    clock.now += LOOK_SECONDS
    return [each.name for each in watch.new()]


def test_a_file_is_new_once_and_only_after_it_has_stopped_growing(tmp_path: Path, clock: Clock) -> None:
    known, image = tmp_path / "known.jpg", tmp_path / "a.jpg"
    known.write_bytes(b"1")
    watch = Watch([tmp_path], map(Input.of, [known, tmp_path / "absent.jpg"]), clock)
    for content in (b"", b"1", b"12"):
        image.write_bytes(content)
        assert found(watch, clock) == []
    assert found(watch, clock) == ["a.jpg"]
    assert found(watch, clock) == []
    image.rename(tmp_path / "b.jpg")
    assert (found(watch, clock), found(watch, clock)) == ([], ["b.jpg"])
    (tmp_path / "absent.jpg").write_bytes(b"1")
    assert (found(watch, clock), found(watch, clock)) == ([], ["absent.jpg"])


def test_files_with_the_same_stem_have_results_with_different_names(tmp_path: Path, clock: Clock) -> None:
    for name in ("a.jpg", "a.png", "b.png", "below/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    watch = Watch([tmp_path], [Input.of(tmp_path / "a.jpg")], clock)
    assert found(watch, clock) == []
    clock.now += LOOK_SECONDS
    new = {each.shown: each.renamed(f"{Path(each.name).stem}-x.webp") for each in watch.new()}
    expected = {"a.png": "a_png-x.webp", "b.png": "b-x.webp", "below/a.jpg": "a-x.webp"}
    assert new == {str(tmp_path / name): result for name, result in expected.items()}


def test_looks_are_a_second_apart_however_often_files_end(tmp_path: Path, clock: Clock) -> None:
    watch = Watch([tmp_path], [], clock)
    (tmp_path / "half.jpg").write_bytes(b"1")
    assert found(watch, clock) == []
    assert list(watch.new()) == [], "a file that is being written looks complete for a moment"
    assert found(watch, clock) == ["half.jpg"]


def test_a_file_that_failed_is_new_again_when_it_has_changed(tmp_path: Path, clock: Clock) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"1")
    watch = Watch([tmp_path], [Input.of(image)], clock)
    watch.note(image, failed=True)
    assert (found(watch, clock), found(watch, clock)) == ([], [])
    image.write_bytes(b"12")
    assert (found(watch, clock), found(watch, clock), found(watch, clock)) == ([], ["a.jpg"], [])
    watch.note(image, failed=False)
    image.write_bytes(b"123")
    assert (found(watch, clock), found(watch, clock)) == ([], [])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with embedded(tmp_path_factory.mktemp("watching")).running() as deployment:
        yield deployment


@pytest.mark.integration
def test_a_half_written_file_fails_and_succeeds_when_it_is_whole_and_one_that_comes_later_is_done(
    deployment: Deployment, tmp_path: Path
) -> None:
    folder, out, image = tmp_path / "in", tmp_path / "out", make_photo(300, 200)
    folder.mkdir()
    command = ("run", str(folder), "-p", "convert_png", "-o", str(out), "--watch")
    environment = {**client_of(deployment), "TERM": "xterm", "COLUMNS": "200"}
    with terminal() as (screen, shown), started(environment, *command, err=screen) as running:
        until(lambda: b"0 of 0 files" in shown)
        (folder / "photo.jpg").write_bytes(image[: len(image) // 2])
        until(lambda: b"truncated_image" in shown)
        (folder / "photo.jpg").write_bytes(image)
        (folder / "later.jpg").write_bytes(make_photo(60, 40))
        until(lambda: list(out.glob("photo*.png")) and list(out.glob("later*.png")))
        until(lambda: b"3 of 3 files" in shown)
        running.process.send_signal(signal.SIGINT)
        ended = running.ended()
    assert ended.returncode == 130
    assert {path.name for path in out.glob("*.png")} == {"photo-convert_png.png", "later-convert_png.png"}


def test_a_run_that_gives_up_on_its_server_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(Client("http://127.0.0.1:9"), None, None, None, Display(1, quiet=True), "fail")
    with pytest.raises(ServerAway) as given_up, _shown(run):
        raise ServerAway("http://127.0.0.1:9 does not answer")
    assert _explained(given_up.value) == AWAY
    assert capsys.readouterr().err.splitlines()[-1] == CONTINUE
