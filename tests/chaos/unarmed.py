"""Starts a command next to those with a fault: the same surroundings, without the fault."""

import os

from tests.chaos.run import main

if __name__ == "__main__":
    os.environ.pop("CHAOS_POINT", None)
    os.environ.pop("CHAOS_PATCH", None)
    main()
