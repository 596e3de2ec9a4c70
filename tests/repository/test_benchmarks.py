"""`python -m benchmarks` has everything that can be measured, and documentation names nothing else."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import BENCHMARKS
from tests.support.deployment import ROOT

NAMES = {benchmark.name for benchmark in BENCHMARKS}
MODULES = {benchmark.module for benchmark in BENCHMARKS}
STARTED = {"__main__", "watched_api"}  # by others, not by their name


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def has_main(file: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(file.read_text()).body)


def test_the_list_is_shown() -> None:
    shown = run()
    assert shown.returncode == 0, shown.stderr
    assert set(re.findall(r"^  ([\w-]+) +[\d.]+ min  \S", shown.stdout, re.MULTILINE)) == NAMES


def test_another_name_is_refused() -> None:
    refused = run("speed")
    assert refused.returncode == 1
    assert "There is no benchmark 'speed'" in refused.stderr


def test_a_benchmark_gets_its_options() -> None:
    helped = run("autoscale", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "usage: python -m benchmarks autoscale" in helped.stdout


def test_every_entry_has_a_main_and_every_main_an_entry() -> None:
    assert len(NAMES) == len(MODULES) == len(BENCHMARKS)
    home = ROOT / "benchmarks"
    files = [file for file in home.rglob("*.py") if "peers" not in file.parts and "node_modules" not in file.parts]
    found = {".".join(file.relative_to(home).with_suffix("").parts) for file in files if has_main(file)}
    assert found - STARTED == MODULES


def test_documentation_names_benchmarks_that_there_are() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("models/*.md")]
    text = "\n".join(page.read_text() for page in pages)
    named = set(re.findall(r"make bench NAME=([\w-]+)|python -m benchmarks ([a-z][\w-]*)", text))
    names = {first or second for first, second in named}
    assert len(names) > 5
    assert names <= NAMES
