"""References `module:function`, by which registries name functions of workers, so that the API never loads a codec."""

from importlib import import_module
from typing import Any


def resolve(reference: str) -> Any:
    """Return the function of a reference, and import its module if necessary."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
