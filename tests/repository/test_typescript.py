"""The types of the TypeScript client: made of the API and of the code as they are, strict, and of use to others.

`make check` runs the compiler, and `make test-full` runs it again; `make test` does not.
"""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import ROOT
from tests.support.node import CLIENT, EXAMPLE, installed

COMPILER = ROOT / ".typescript" / "node_modules"
STRICT: dict[str, Any] = {
    "strict": True,
    "noEmit": True,
    "target": "ES2022",
    "lib": ["ES2023", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
    "noUnusedLocals": True,
}
#: what the compilers of programs and of bundlers understand differently
MODULES = [
    {"module": "NodeNext"},
    {"module": "ESNext", "moduleResolution": "Bundler"},
]


def test_the_types_are_those_of_the_api() -> None:
    made = runpy.run_path(str(CLIENT / "make_types.py"))["made"]()
    assert made == (CLIENT / "api.d.ts").read_text(), "run `make client-types`"


def test_nothing_is_needed_at_run_time() -> None:
    package = json.loads((CLIENT / "package.json").read_text())
    assert package["private"] is True, "it is published nowhere"
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & package.keys()
    imported = {
        name
        for file in (CLIENT / "lib").glob("*.js")
        for name in re.findall(r'^(?:import|export) .*?from "([^"]+)";', file.read_text(), re.MULTILINE | re.DOTALL)
    }
    assert {name for name in imported if not name.startswith("./")} == {
        *("node:crypto", "node:fs", "node:fs/promises", "node:os", "node:path")
    }
    for file in ("client", "errors", "index", "protocol", "webhooks"):
        assert "node:" not in (CLIENT / "lib" / f"{file}.js").read_text().replace('"pixtools-client/node"', "")


def test_every_error_of_the_client_is_exported() -> None:
    kinds = re.findall(r"^export class (\w+)", (CLIENT / "lib" / "errors.js").read_text(), re.MULTILINE)
    exported = (CLIENT / "lib" / "index.js").read_text()
    assert len(kinds) > 20
    assert [kind for kind in kinds if not re.search(rf"^  {kind},$", exported, re.MULTILINE)] == []


# -- the compiler ------------------------------------------------------------------------------------------------------


def compile_(*arguments: str | Path) -> None:
    """Run the compiler; it must find nothing wrong."""
    program = COMPILER / "typescript" / "bin" / "tsc"
    node = shutil.which("node")
    if node is None or not program.exists():
        pytest.skip("TypeScript is not installed: `make check-typescript`, which needs npm")
    ran = subprocess.run([node, program, *arguments], capture_output=True, text=True, check=False, timeout=150)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.full
def test_the_declarations_are_those_of_the_code(tmp_path: Path) -> None:
    compile_("--project", CLIENT, "--outDir", tmp_path)
    made, committed = ({file.name: file.read_text() for file in at.iterdir()} for at in (tmp_path, CLIENT / "types"))
    assert made == committed, "run `make client-types`"


@pytest.mark.full
@pytest.mark.parametrize("module", MODULES, ids=["node", "bundler"])
def test_programs_of_others_are_checked_by_them(tmp_path: Path, module: dict[str, str]) -> None:
    """The examples of the page, and what the types allow and do not."""
    examples = re.findall(EXAMPLE, (ROOT / "docs" / "client-typescript.md").read_text(), re.DOTALL)
    assert len(examples) >= 10
    for number, text in enumerate(examples):
        (tmp_path / f"example{number}.ts").write_text(text)
    shutil.copy(CLIENT / "tests" / "usage.ts", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    own = {"types": ["node"], "typeRoots": [str(COMPILER / "@types")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": {**STRICT, **module, **own}}))
    compile_("--project", installed(tmp_path))
