"""All benchmarks.

    python -m benchmarks                  lists them
    python -m benchmarks NAME [options]   runs one; `--help` shows its options

`make bench NAME=...` first installs what the benchmark needs.
"""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark: `module` has a `main` that reads the command line."""

    name: str
    module: str
    measures: str
    #: duration on two cores, with the default options
    minutes: float
    #: whether it needs RabbitMQ, Redis, PostgreSQL and an S3 server
    servers: bool = False

    def __str__(self) -> str:
        return f"  {self.name:<15} {self.minutes:>4g} min  {self.measures}"


BENCHMARKS = (
    Benchmark(
        name="listeners",
        module="listeners",
        measures="memory of 1,000 idle listeners of live events, and how soon events reach 50 active ones",
        minutes=1.5,
    ),
    Benchmark(
        name="uploads",
        module="uploads",
        measures="memory of the API and the longest pause of its event loop under 200 uploads at once",
        minutes=0.5,
    ),
    Benchmark(
        name="plan",
        module="plan",
        measures="CPU time and memory that POST /plan predicts, and what the work takes; fits its constants",
        minutes=3,
    ),
    Benchmark(
        name="web",
        module="web",
        measures="CPU time of `web` next to that of its encodes alone, and the steps of `bytes_step`, on photographs",
        minutes=6,
    ),
    Benchmark(
        name="images",
        module="images",
        measures="one resize and its encoders, next to libvips, sharp, Pillow and thumbor; needs npm",
        minutes=10,
        servers=True,
    ),
    Benchmark(
        name="queue",
        module="queue.compare",
        measures="jobs per second and CPU time of a job, next to Express, BullMQ and sharp; needs npm",
        minutes=5,
        servers=True,
    ),
    Benchmark(
        name="latency",
        module="latency",
        measures="time from an accepted job to its first task, and the relay's message rate, next to bare Celery",
        minutes=2,
        servers=True,
    ),
    Benchmark(
        name="fairness",
        module="fairness",
        measures="time of a small job alone, behind a thousand others, and next to a long one",
        minutes=8,
        servers=True,
    ),
    Benchmark(
        name="keys",
        module="keys",
        measures="time of the same requests without a key and with one",
        minutes=2,
    ),
    Benchmark(
        name="drain",
        module="drain",
        measures="memory while 10,000 jobs wait and are drained",
        minutes=15,
        servers=True,
    ),
    Benchmark(
        name="isolation",
        module="isolation",
        measures="time of resizes alone, and while `denoise` works on large images",
        minutes=3,
        servers=True,
    ),
    Benchmark(
        name="webhooks",
        module="webhooks",
        measures="webhooks to misbehaving receivers, and the effect of a dead host on others",
        minutes=10,
        servers=True,
    ),
    Benchmark(
        name="observability",
        module="observability",
        measures="requests per second with and without metrics, ids and the access log",
        minutes=8,
        servers=True,
    ),
    Benchmark(
        name="memory",
        module="worker_memory",
        measures="memory of pixel workers over 1,000 mixed jobs; draws docs/images/worker-memory.svg",
        minutes=8,
        servers=True,
    ),
    Benchmark(
        name="denoise",
        module="denoise",
        measures="speed and memory of the networks, next to PyTorch and OpenCV; needs .venv-training",
        minutes=6,
    ),
    Benchmark(
        name="denoise-memory",
        module="denoise_memory",
        measures="peak memory of denoising 12 and 48 megapixels",
        minutes=3,
    ),
    Benchmark(
        name="quality",
        module="quality",
        measures="size, similarity and CPU of every encoder's settings on photographs of a folder; needs .venv-quality",
        minutes=60,
    ),
    Benchmark(
        name="autoscale",
        module="autoscale.compare",
        measures="simulates spot workers scaled by KEDA next to fixed fleets; draws docs/images/scaling.svg",
        minutes=10,
    ),
    Benchmark(
        name="postgres",
        module="postgres",
        measures="CPU time, WAL and disk of PostgreSQL for a job, with many others in its tables",
        minutes=2,
        servers=True,
    ),
    Benchmark(
        name="autoscale-tasks",
        module="autoscale.tasks",
        measures="CPU time of the tasks that `autoscale` simulates; writes benchmarks/autoscale/samples.json",
        minutes=2,
    ),
    Benchmark(
        name="picture-fits",
        module="pictures.fits",
        measures="draws docs/images/fits.webp from a photograph",
        minutes=0.1,
    ),
    Benchmark(
        name="picture-formats",
        module="pictures.formats",
        measures="draws docs/images/formats.webp from a photograph",
        minutes=0.1,
    ),
    Benchmark(
        name="picture-denoise",
        module="pictures.denoise",
        measures="draws docs/images/denoise.webp from a photograph",
        minutes=0.5,
    ),
)


def main() -> None:
    name, *options = sys.argv[1:] or ["--help"]
    found = {benchmark.name: benchmark for benchmark in BENCHMARKS}.get(name)
    if found is None:
        print((__doc__ or "").strip(), *BENCHMARKS, sep="\n")
        raise SystemExit(0 if name == "--help" else f"\nThere is no benchmark {name!r}.")
    if found.servers and not {"-h", "--help"} & set(options):
        subprocess.run([ROOT / "scripts" / "install-test-servers"], check=True)
    sys.argv = [f"python -m benchmarks {name}", *options]
    module = importlib.import_module(f"benchmarks.{found.module}")
    if {"-h", "--help"} & set(options) and not hasattr(module, "argparse"):  # it has no command-line options
        raise SystemExit((module.__doc__ or found.measures).strip())
    module.main()


if __name__ == "__main__":
    main()
