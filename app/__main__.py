"""`python -m app` is the `pixtools` command."""

from app.cli import main

main()
