"""What an operator sees of one process when something is wrong with its data, and when it has to stop."""

import json
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import in_one_mode
from tests.support.deployment import Deployment, embedded, run_bare
from tests.support.processes import logged
from tests.support.schema import migrated_file
from tests.support.waiting import until

PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + bytes(200_000)
HEAD = b"POST /process HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
SPOIL = {
    "no database": lambda path: path.write_bytes(b"this is not a database " * 1000),
    "schema overwritten": lambda path: _overwrite(path, 100, 3000),
}


def _overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))


def lines(deployment: Deployment) -> list[dict[str, Any]]:
    return logged(deployment.log)


@pytest.fixture
def migrated(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a data folder, with the current schema."""
    path = tmp_path / "data" / "pixtools.db"
    path.parent.mkdir(mode=0o700)
    migrated_file(path, tmp_path_factory.getbasetemp() / "migrated.db")
    return path


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_damaged_database_is_told_in_one_line_that_says_what_to_do(
    migrated: Path, tmp_path: Path, spoil: str
) -> None:
    path = migrated
    SPOIL[spoil](path)
    for command in ("serve", "migrate"):
        done = run_bare(tmp_path, "app", command)
        assert done.returncode != 0, command
        [line] = done.stderr.splitlines()
        assert f"{path} is damaged" in line
        assert "restore it from a backup" in line
    doctor = run_bare(tmp_path, "app", "doctor")
    assert doctor.returncode == 1
    assert "Traceback" not in doctor.stderr
    [line] = [line for line in doctor.stdout.splitlines() if line.startswith("FAIL  schema")]
    assert "restore it from a backup" in line


def test_a_database_of_a_later_version_is_refused_in_one_line(migrated: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(migrated)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    for command in ("serve", "migrate"):
        done = run_bare(tmp_path, "app", command)
        assert done.returncode != 0, command
        [line] = done.stderr.splitlines()
        assert "belongs to a later version of PixTools (revision 9999)" in line


def test_in_a_folder_that_others_may_read_everything_new_is_private(tmp_path: Path, photo: bytes) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    deployment = embedded(tmp_path)
    deployment.start()
    try:
        with deployment.client() as api:
            assert api.run(photo, ["convert_png"])["status"] == "completed"
        made = {path: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    finally:
        deployment.stop()
    assert {path.name for path in made} >= {"pixtools.db", "pixtools.db-wal", "objects", "spool", "secret.key", "input"}
    assert {path: oct(mode) for path, mode in made.items() if mode & 0o077} == {}
    [warning] = [line for line in lines(deployment) if line["event"] == "data_folder_open"]
    assert f"chmod 700 {folder}" in warning["hint"]
    doctor = run_bare(tmp_path, "app", "doctor")
    assert f"-> chmod 700 {folder}" in doctor.stdout


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_a_folder_of_its_own_is_no_matter(deployment: Deployment) -> None:
    assert not [line for line in lines(deployment) if line["event"] == "data_folder_open"]


def unnamed_files(pid: int, folder: Path) -> int:
    """How many files without a name a process has in a folder."""
    count = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            count += each.readlink().is_relative_to(folder)
    return count


def test_a_process_that_stops_during_uploads_says_nothing_of_its_code(tmp_path: Path) -> None:
    deployment = embedded(tmp_path)
    deployment.commands = [["tests.support.little_grace", "app", "serve"]]
    deployment.start()
    chunk = f"{len(PART):x}\r\n".encode() + PART + b"\r\n"
    held = []
    try:
        for begun in (b"Content-Length: 5000000\r\n\r\n" + PART, b"Transfer-Encoding: chunked\r\n\r\n" + chunk) * 3:
            connection = socket.create_connection(("127.0.0.1", deployment.port), timeout=30)
            connection.sendall(HEAD + begun)
            held.append(connection)
        [process] = deployment.processes
        until(lambda: unnamed_files(process.pid, tmp_path / "data" / "spool") == len(held))  # all are being received
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(40) in {0, -signal.SIGTERM}
        answers = [connection.recv(2000) for connection in held]
    finally:
        for connection in held:
            connection.close()
        deployment.stop()
    assert "Traceback" not in deployment.log.read_text()
    assert all(answer.startswith(b"HTTP/1.1 503") and b"retry-after" in answer.lower() for answer in answers)
    assert not [line for line in lines(deployment) if "exception" in line]
    assert list((tmp_path / "data" / "spool").iterdir()) == []


# the processes of a cluster say what a single one says, and what Celery says
@in_one_mode(mode="cluster")
def test_an_ordinary_job_is_at_most_four_lines_in_each_process(deployment: Deployment, photo: bytes) -> None:
    """Also one of many tasks; requests that look how it is are the client's."""
    tree = [{"op": "resize", "width": 100 + n, "then": ["convert_webp", "convert_png"]} for n in range(2)]
    with deployment.client() as api:
        job = api.run(photo, [*tree, "convert_avif"], headers={"X-Request-ID": "a-quiet-job"})
    assert job["status"] == "completed"
    until(lambda: any(line["event"] == "job_ended" and job["id"] in json.dumps(line) for line in lines(deployment)))
    time.sleep(1)  # for surplus lines
    looks = [line for line in lines(deployment) if line["event"] == "request" and line["request_id"] != "a-quiet-job"]
    mine = [line for line in lines(deployment) if line not in looks and job["id"] in json.dumps(line)]
    shown = [line["event"] for line in mine if line["level"] == "info"]
    assert "job_ended" in shown, "and not nothing at all"
    assert len(shown) <= 4, shown


def test_what_is_no_line_any_more_is_counted(deployment: Deployment, photo: bytes) -> None:
    with deployment.client() as api:
        api.run(photo, ["convert_png"])
        metrics = api.http.get("/metrics").text
    sent = 'pixtools_outbox_messages_total{outcome="sent"} '
    assert [float(line.removeprefix(sent)) > 0 for line in metrics.splitlines() if line.startswith(sent)] == [True]
