"""`python -m tests.outages [--only Redis]`: stages all outages in turn, and draws the dashboards.

Prints when each alert fired and cleared, draws every panel of the dashboards from the data of this run, and fails if an
alert was missing.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.outages.outages import HEADING, OUTAGES, Seen, run
from tests.outages.picture import draw
from tests.outages.stage import Load, staged
from tests.support.fixtures import ServerPool

ROOT = Path(__file__).parent.parent.parent
WATCHDOG = "PixToolsWatchdog"
BEFORE = 20.0  # seconds with only the load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="outages whose name holds this")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "dashboards.svg")
    options = parser.parse_args()
    seen: list[Seen] = []
    alive = False
    with tempfile.TemporaryDirectory() as name:
        pool = ServerPool(Path(name) / "servers")
        servers = pool.cluster()
        try:
            with staged(servers, Path(name)) as stage, Load(stage.deployment.url).running():
                began = time.time()
                time.sleep(BEFORE)
                _show(f"before: {stage.prometheus.firing()} fire\n\n{HEADING}")
                for outage in OUTAGES:
                    if options.only in outage.name:
                        seen += run(stage, outage)
                        _show("\n".join(str(one) for one in seen if one.outage == outage.name))
                options.picture.write_text(draw(stage.prometheus, began, time.time()))
                firing = [labels["alertname"] for labels in stage.prometheus.firing()]
                if options.only == "" and (left := set(firing) - {WATCHDOG}):
                    _show(f"still firing: {left}")
                beats = [labels["alertname"] for labels in stage.shown("watchdog")]
                _show(f"the watchdog's receiver has heard {len(beats)} times since the last outage began")
                alive = set(beats) == {WATCHDOG}
        finally:
            pool.stop()
    sys.exit(0 if alive and all(one.holds for one in seen) else 1)


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
