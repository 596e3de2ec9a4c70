"""`module:function` references: registries name functions that only workers import, so the API never loads a codec."""

from importlib import import_module
from typing import Any


def resolve(reference: str) -> Any:
    """The function of a reference; its module is imported on first use."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
