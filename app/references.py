"""`module:function` references: the registries name what only workers import, so that the API never loads a codec."""

from importlib import import_module
from typing import Any


def resolve(reference: str) -> Any:
    """The function that a reference names; its module is imported on first use."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
