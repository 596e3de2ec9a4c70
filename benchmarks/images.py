"""CPU time of resizing 12 megapixels to WebP, JPEG, AVIF and all three, with the whole of PixTools and with others.

    python -m benchmarks images [--rounds 10] [--image photo.jpg] [--peers folder] [--before checkout]

starts PixTools in both modes, with RabbitMQ, Redis, PostgreSQL and an S3 server as the tests do, and bare libvips,
sharp, Pillow and thumbor, which it installs into `--peers` (default: a cache folder; needs npm). All write WebP of
quality 80 and effort 4, progressive JPEG of quality 80 with optimised tables and 4:2:0, and AVIF of quality 50 and
effort 2 with 4:2:0, with one thread per image. `libvips, thumbnail` is the usual call, which decodes all pixels.
PixTools lets the JPEG decoder halve the image; so does `libvips, shrink`, which does the same work without a service.

The photograph is generated from a seed (benchmarks/photograph.py); `--image` uses a real one.

CPU seconds are those of all processes of a contestant with their children, from the request until shortly after the
answer, minus their idle load, which has its own column. PixTools' jobs are sent with `Prefer: wait`, so that the API
polls instead of the client, and answers a little after the end of a job. Since machines are noisy, rounds go through
all contestants in turn, and medians are printed. Sums of memory count shared pages once per process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pyvips

from app.imaging.ssim import ssim
from benchmarks.deployments import CACHE, CLUSTER, EMBEDDED, as_in_production, of_checkout
from benchmarks.photograph import QUALITY, photograph
from benchmarks.processes import Meter, family, peaks
from tests.support.deployment import Deployment, cluster, embedded, free_port
from tests.support.fixtures import ServerPool
from tests.support.server import Server

SHARP, THUMBOR = "sharp@0.35.5", "thumbor==7.8.0"
PEERS = Path(__file__).parent / "peers"
FORMATS = ("webp", "jpeg", "avif")
TOGETHER, BRANCHES = "three", "branches"  # all formats: after one resize, or each with its own resize
JOBS = (*FORMATS, TOGETHER, BRANCHES)
WIDTH = 1280
SETTLE = 0.4  # seconds after an answer that still count: messages, the job's end, removal of files
RESIZE = {"op": "resize", "width": WIDTH}
ENCODERS = {"webp": "convert_webp", "jpeg": "convert_jpeg", "avif": {"op": "convert_avif", "quality": 50}}
TREES = {
    **{name: [{**RESIZE, "then": [ENCODERS[name]]}] for name in FORMATS},
    TOGETHER: [{**RESIZE, "then": [ENCODERS[name] for name in FORMATS]}],
    BRANCHES: [{**RESIZE, "then": [ENCODERS[name]]} for name in FORMATS],
}
# JPEG is 4:2:0 by default; if that is set explicitly, thumbor ignores the quality
THUMBOR_SETTINGS = """
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {folder!r}
STORAGE = "thumbor.storages.no_storage"
QUALITY, WEBP_QUALITY, AVIF_QUALITY, AVIF_SPEED, AVIF_CODEC = 80, 80, 50, 7, "aom"
PROGRESSIVE_JPEG = True
"""


@dataclass
class Contestant:
    """Running processes that do jobs."""

    name: str
    #: does a job, and for a single format leaves the file in the folder
    run: Callable[[str], None]
    jobs: Sequence[str]
    folder: Path
    meter: Meter
    settle: float = 0.0
    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    server_cpu: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, job: str) -> None:
        spent = self.meter.spent(lambda: self.run(job), self.settle)
        self.wall.setdefault(job, []).append(spent.wall)
        self.cpu.setdefault(job, []).append(spent.own)
        self.server_cpu.setdefault(job, []).append(spent.servers)


@contextmanager
def service(name: str, deployment: Deployment, source: Path, servers: Iterable[Server] = ()) -> Iterator[Contestant]:
    image = source.read_bytes()
    try:
        as_in_production(deployment).start()
        with deployment.client() as api:

            def run(job: str) -> None:
                answer = api.process(image, TREES[job], headers={"Prefer": "wait=60"})
                assert answer.status_code == 200, answer.text
                ended = answer.json()
                assert ended["status"] == "completed", ended
                if job in FORMATS and not (deployment.folder / f"{job}.{job}").exists():
                    (deployment.folder / f"{job}.{job}").write_bytes(api.download(ended["results"][0]).content)

            yield Contestant(
                name,
                run,
                JOBS,
                deployment.folder,
                Meter(
                    lambda: family(process.pid for process in deployment.processes),
                    lambda: {process.pid for server in servers for process in server.processes()},
                ),
                settle=SETTLE,
            )
    finally:
        deployment.stop()


@contextmanager
def program(name: str, folder: Path, *command: str | Path, **environment: str) -> Iterator[Contestant]:
    """A contestant that is a program, which reads one job per line and runs it at once."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )

    def run(job: str) -> None:
        print(job, file=process.stdin, flush=True)
        assert process.stdout
        assert process.stdout.readline() == "done\n", f"{name} ended"

    try:
        yield Contestant(name, run, (*FORMATS, TOGETHER), folder, Meter(lambda: {process.pid}))
    finally:
        process.kill()
        process.wait()


def libvips(way: str, folder: Path, source: Path) -> AbstractContextManager[Contestant]:
    return program(f"libvips, {way}", folder, sys.executable, PEERS / "libvips.py", source, folder, way)


def pillow(folder: Path, source: Path) -> AbstractContextManager[Contestant]:
    return program("Pillow", folder, sys.executable, PEERS / "pillow.py", source, folder)


def sharp(peers: Path, folder: Path, source: Path) -> AbstractContextManager[Contestant]:
    home = peers / "sharp"
    if not (home / "node_modules" / "sharp").exists():
        home.mkdir(parents=True, exist_ok=True)
        install("npm", "install", "--prefix", home, "--no-audit", "--no-fund", SHARP)
    return program("sharp", folder, "node", PEERS / "sharp.js", source, folder, NODE_PATH=str(home / "node_modules"))


@contextmanager
def thumbor(peers: Path, folder: Path, source: Path) -> Iterator[Contestant]:
    python = peers / "thumbor" / "bin" / "python"
    if not (python.parent / "thumbor").exists():
        venv.create(peers / "thumbor", with_pip=True)
        install(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", THUMBOR)
    settings = folder / "thumbor.conf"
    settings.write_text(THUMBOR_SETTINGS.format(folder=str(source.parent)))
    port = free_port()
    command = [python, "-m", "thumbor.server", "--ip", "127.0.0.1", "--port", str(port), "--conf", settings]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def run(job: str) -> None:
        for name in FORMATS if job == BRANCHES else [job]:
            answer = client.get(f"/unsafe/{WIDTH}x0/filters:format({name})/{source.name}")
            assert answer.headers["content-type"] == f"image/{name}", answer.headers
            (folder / f"{name}.{name}").write_bytes(answer.content)

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until_it_answers(client)
            yield Contestant("thumbor", run, (*FORMATS, BRANCHES), folder, Meter(lambda: family([process.pid])))
    finally:
        process.terminate()
        process.wait()


def until_it_answers(client: httpx.Client) -> None:
    for _ in range(100):
        try:
            client.get("/healthcheck").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise OSError("thumbor did not start")


def install(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))} failed: {done.stderr[-500:]}")


@contextmanager
def contestants(folder: Path, source: Path, peers: Path, before: Path | None) -> Iterator[list[Contestant]]:
    """All contestants that are available on this machine; with `before`, only that checkout and this one."""

    def own(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    with ExitStack() as stack:
        if before:
            old = service(f"{EMBEDDED}, {before.name}", of_checkout(own("before"), before), source)
            now = service(EMBEDDED, embedded(own("embedded")), source)
            yield [stack.enter_context(one) for one in (old, now)]
            return
        pool = ServerPool(folder / "servers")
        stack.callback(pool.stop)
        servers = pool.cluster()
        found = [
            stack.enter_context(service(EMBEDDED, embedded(own("embedded")), source)),
            stack.enter_context(service(CLUSTER, cluster(own("cluster"), servers), source, vars(servers).values())),
            *(stack.enter_context(libvips(way, own(way), source)) for way in ("thumbnail", "shrink")),
            stack.enter_context(pillow(own("pillow"), source)),
        ]
        for name, peer in (("sharp", sharp), ("thumbor", thumbor)):
            try:
                found.append(stack.enter_context(peer(peers, own(name), source)))
            except OSError as error:
                print(f"{name} is left out: {error}\n")
        yield found


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for row in (heading, ["---", *("---:" for _ in heading[1:])], *rows):
        print(f"| {' | '.join(row)} |")
    print()


def medians(title: str, found: Sequence[Contestant], of: Callable[[Contestant], dict[str, list[float]]]) -> None:
    rows = [
        [one.name, *(f"{statistics.median(of(one)[job]):.3f}" if job in of(one) else "" for job in JOBS)]
        for one in found
        if of(one)
    ]
    table([title, *JOBS], rows)


def memory(found: Sequence[Contestant]) -> None:
    rows = []
    for one in found:
        own, servers = peaks(one.meter.pids()), peaks(one.meter.server_pids())
        idle = [f"{1000 * share:.1f}" for share in one.meter.idle]
        rows.append([one.name, *(f"{size / 1e6:.0f}" for size in (own[0], sum(own), sum(servers))), *idle])
    table(["Peak memory, MB; idle CPU, ms/s", "largest process", "all", "servers", "idle", "servers idle"], rows)


def quality(found: Sequence[Contestant], source: Path) -> None:
    whole = pyvips.Image.new_from_file(str(source), access="sequential")
    reference = whole.resize(WIDTH / whole.width, kernel="lanczos3").copy_memory()
    rows = []
    for one in found:
        files = [one.folder / f"{name}.{name}" for name in FORMATS]
        alike = [ssim(reference, pyvips.Image.new_from_file(str(file))) for file in files]
        rows.append(
            [
                one.name,
                *(
                    f"{file.stat().st_size / 1000:.1f} kB, {index:.4f}"
                    for file, index in zip(files, alike, strict=True)
                ),
            ]
        )
    table(["Size; SSIM to the whole image scaled by Lanczos", *FORMATS], rows)


def aims(found: Sequence[Contestant]) -> None:
    cpu = {one.name: {job: statistics.median(values) for job, values in one.cpu.items()} for one in found}
    rows = []
    for name in (EMBEDDED, CLUSTER):
        for job in (*FORMATS, TOGETHER):
            ratios = [f"{cpu[name][job] / cpu[f'libvips, {way}'][job]:.2f}" for way in ("thumbnail", "shrink")]
            rows.append([f"{name}, {job}", *ratios, f"{1.15 if job == TOGETHER else 1.3}"])
    table(["CPU as a multiple of", "libvips, thumbnail", "libvips, shrink", "aim"], rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--peers", type=Path, default=CACHE)
    parser.add_argument("--before", type=Path, help="a checkout to compare with, instead of the peers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "photo.jpg"
        if arguments.image:
            source.write_bytes(arguments.image.read_bytes())
        else:
            photograph().save(source, quality=QUALITY)
        with contestants(folder, source, arguments.peers.absolute(), arguments.before) as found:
            measure(found, arguments.rounds)
            report(found, source)


def measure(found: Sequence[Contestant], rounds: int) -> None:
    for one in found:
        for job in one.jobs:
            one.run(job)
        one.meter.rest()
    for _ in range(rounds):
        for job in JOBS:
            for one in found:
                if job in one.jobs:
                    one.measure(job)


def report(found: Sequence[Contestant], source: Path) -> None:
    megabytes, jobs = source.stat().st_size / 1e6, len(found[0].cpu[TOGETHER])
    print(f"A JPEG of {megabytes:.1f} MB, resized to a width of {WIDTH} pixels; medians of {jobs} jobs\n")
    medians("CPU seconds of a job", found, lambda one: one.cpu)
    medians("CPU seconds of its servers", [one for one in found if one.meter.server_pids()], lambda one: one.server_cpu)
    medians("Seconds until the answer", found, lambda one: one.wall)
    if any(one.name == CLUSTER for one in found):
        aims(found)
    memory(found)
    quality(found, source)
