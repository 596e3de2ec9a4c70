"""infra/ without a cloud and without a simulator: form, rules of variables, and what scanners say."""

import os
import re
import subprocess
from pathlib import Path
from string import Template

import pytest

from .conftest import INFRA, ROOT, Terraform, checkov, tool

SKIP = re.compile(r"#checkov:skip=(?P<check>[A-Z0-9_]+): \S.+")
KUBERNETES = "1.36"  # of variables.tf's K3s
FILES = list((INFRA / "tests").glob("*.tftest.hcl"))
QUICK = {"nodes.tftest.hcl"}  # the other one takes a minute of a processor: `make infra-test` and `make test-full`
ADDONS = {
    "image": "images.example/addon:v1.2.3",
    "region": "us-east-1",
    "cluster": "trial",
    "queue_url": "https://queue.example/1/trial-drain",
    "version": "2.20.2",
    "replicas": "2",
}


def test_it_is_formatted(terraform: Terraform) -> None:
    terraform("fmt", "-check", "-recursive", "-diff")


def test_it_is_valid(terraform: Terraform) -> None:
    terraform("validate")


@pytest.mark.skipif("INFRA_SIMULATOR" not in os.environ, reason="a minute: `make infra-test` runs infra/tests")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "file",
    [pytest.param(file.name, marks=[pytest.mark.full] * (file.name not in QUICK)) for file in sorted(FILES)],
)
def test_variables_are_checked_and_nodes_are_made_as_promised(terraform: Terraform, file: str) -> None:
    """With a mocked provider."""
    result = terraform("test", "-no-color", f"-filter=tests/{file}")
    assert " 0 failed" in result.stdout
    written = len(re.findall(r'^run "', (INFRA / "tests" / file).read_text(), re.MULTILINE))
    assert int(re.findall(r"(\d+) passed", result.stdout)[-1]) == written > 1


def test_checkov_finds_nothing() -> None:
    assert checkov("terraform", "--directory", INFRA) == set()


def test_every_skip_of_checkov_is_needed_and_says_why(tmp_path: Path) -> None:
    skipped = set()
    for path in INFRA.glob("*.tf"):
        lines = path.read_text().splitlines()
        marked = [line for line in lines if "checkov:skip" in line]
        skipped |= {match["check"] for line in marked if (match := SKIP.search(line))}
        assert all(SKIP.search(line) for line in marked), path
        (tmp_path / path.name).write_text("\n".join(line for line in lines if line not in marked))
    assert checkov("terraform", "--directory", tmp_path) == skipped


@pytest.mark.parametrize("addon", sorted((INFRA / "addons").iterdir()), ids=lambda path: path.name)
def test_addons_match_the_schemas_of_kubernetes(addon: Path, tmp_path: Path) -> None:
    manifest = tmp_path / addon.stem
    manifest.write_text(Template(addon.read_text()).substitute(ADDONS))
    result = subprocess.run(
        [tool("kubernetes-validate"), "--strict", "--kubernetes-version", KUBERNETES, manifest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_addons_are_for_the_pinned_kubernetes() -> None:
    assert f'version = "v{KUBERNETES}.' in (INFRA / "variables.tf").read_text()


def test_scripts_pass_shellcheck() -> None:
    scripts = [INFRA / "templates" / "boot.sh", *INFRA.glob("*.sh"), *(ROOT / "tests/infra/stubs").iterdir()]
    result = subprocess.run([ROOT / ".venv/bin/shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_secrets_are_neither_made_nor_shown_by_terraform() -> None:
    """What Terraform makes or reads ends up in its state."""
    code = "\n".join(path.read_text() for path in INFRA.glob("*.tf"))
    for resource in ("aws_secretsmanager_secret_version", "aws_iam_access_key", "random_password", "tls_private_key"):
        assert f'"{resource}"' not in code
    assert not re.search(r"^\s+(master_)?password\s*=", code, re.MULTILINE)
