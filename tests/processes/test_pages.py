"""The shell blocks of the pages about starting and keeping a server run as they are printed."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_photo
from tests.support.deployment import ROOT, ApiClient, Deployment, embedded
from tests.support.shell import run_script

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with embedded(tmp_path_factory.mktemp("pages")).running() as deployment:
        yield deployment


def run_blocks(page: str, folder: Path, deployment: Deployment, *, at_least: int) -> str:
    """Run every block of a page that is marked as shell, one after the other; what they print."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert len(blocks) >= at_least
    script = "\n".join(blocks).replace("127.0.0.1:8000", f"127.0.0.1:{deployment.port}")
    ran = run_script(script, folder, deployment)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout + ran.stderr


def test_the_quick_start_makes_what_it_promises(deployment: Deployment, api: ApiClient, tmp_path: Path) -> None:
    sample = tmp_path / "app" / "static" / "page" / "sample.jpg"
    sample.parent.mkdir(parents=True)
    sample.write_bytes(make_photo(320, 240))
    printed = run_blocks("quick-start.md", tmp_path, deployment, at_least=6)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/photo-*")}
    assert made == {
        "results/photo-convert_avif.avif",
        "results/photo-resize.convert_webp.webp",
        "results/photo-preview.jpg",
        "cards/photo-resize.convert_webp.webp",
    }
    assert "#/operations/0/widht" in printed


def test_a_backup_of_a_working_server_is_restored(deployment: Deployment, api: ApiClient, tmp_path: Path) -> None:
    job = api.run(make_photo(300, 200), ["convert_webp"])
    (tmp_path / "var").symlink_to(deployment.folder / "data")
    printed = run_blocks("backup.md", tmp_path, deployment, at_least=2)
    assert "row without object" not in printed
    restored = embedded(tmp_path, PIXTOOLS_DATA_DIR=str(tmp_path / "restored"))
    restored.start()
    try:
        with restored.client() as client:
            (result,) = client.job(job["id"])["results"]
            assert hashlib.sha256(client.download(result).content).hexdigest() == job["results"][0]["sha256"]
    finally:
        restored.stop()


def test_what_follows_an_upgrade_runs(deployment: Deployment, api: ApiClient, tmp_path: Path) -> None:
    assert "encrypted with the current key" in run_blocks("upgrade.md", tmp_path, deployment, at_least=1)
