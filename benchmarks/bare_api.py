"""The API without some of its metrics and logs, for comparison in `observability.py`.

    python -m benchmarks.bare_api bare | metrics | all

`bare` has no middleware, metrics or access log; `metrics` has all but the access log.
"""

import logging
import sys

from prometheus_client import Counter, Histogram

from app import background, main
from app.config import Settings
from app.server import serve_api


def _nothing(self: object, *_: object, **__: object) -> object:
    return self


def strip() -> None:
    main.RequestMiddleware = lambda app: app
    for kind, method in ((Counter, "inc"), (Histogram, "observe"), (Counter, "labels"), (Histogram, "labels")):
        setattr(kind, method, _nothing)


if __name__ == "__main__":
    background.services = lambda resources: []  # they only accept jobs, so no other thread disturbs the measurement
    if sys.argv[1] == "bare":
        strip()
    if sys.argv[1] == "metrics":
        logging.getLogger("app.middleware").setLevel(logging.WARNING)
    serve_api(Settings())
