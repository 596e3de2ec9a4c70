"""Benchmarks are run by hand and rarely, so a name that was moved would be noticed late."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
OWN = ("app", "tests", "training", "pixtools_client")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_benchmark_imports_from_the_project_exists(path: Path) -> None:
    missing = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OWN
        for alias in node.names
        if not (
            hasattr(importlib.import_module(node.module), alias.name)
            or importlib.util.find_spec(f"{node.module}.{alias.name}")
        )
    ]
    assert not missing
