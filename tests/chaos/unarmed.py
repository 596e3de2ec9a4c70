"""Starts a command like `tests.chaos.run`, but without the fault, for the other processes of a deployment."""

import os

from tests.chaos.run import main

if __name__ == "__main__":
    os.environ.pop("CHAOS_POINT", None)
    os.environ.pop("CHAOS_PATCH", None)
    main()
