"""Dockerfile, docker-compose.yaml, workflows, Makefile and documents: that they are of one mind with the code."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from app.config import Settings
from app.operations import DEAD_LETTER_QUEUE, Queue

from .conftest import ROOT, checkov, tool

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
WORKFLOWS = {path.stem: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yaml"))}
MAKEFILE = (ROOT / "Makefile").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "infra" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCKERFILES = (ROOT / "Dockerfile", ROOT / "tests" / "docker" / "standin.Dockerfile")
SKIP = re.compile(r"^#checkov:skip=(\w+): \S.*\n", re.MULTILINE)
SHARED = {"builder", "builder-worker", "builder-ml", "runtime"}  # stages of the Dockerfile that are never run
ACTION = re.compile(r"uses: (?P<name>[\w./-]+)@(?P<revision>\S+)(?P<comment> # v[\d.]+)?")
EXPORTER = "celery-exporter"  # of our image, and with nothing of the service but the broker's address
GLIBC, OLDEST_GLIBC = 41, 17  # minor versions: of Debian 13, and the oldest that wheels for arm64 are made for
# Set for the other servers, or by Compose itself.
NOT_OURS = {"PIXTOOLS_BUCKET"}


def stages() -> dict[str, str]:
    """Text of every stage of the Dockerfile by its name."""
    parts = re.split(r"^FROM \S+ AS ([\w-]+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


TARGETS = {name: text for name, text in stages().items() if name not in SHARED}


def ours() -> dict[str, dict[str, Any]]:
    """Services of the stack that run an image of ours."""
    return {
        name: service
        for name, service in STACK["services"].items()
        if service["image"].startswith("pixtools-") and name != EXPORTER
    }


def default_command(target: str) -> list[str]:
    (command,) = re.findall(r"^CMD (\[.*\])$", TARGETS[target], re.MULTILINE)
    return list(yaml.safe_load(command))


def command_of(service: dict[str, Any]) -> list[str]:
    return service.get("command") or default_command(service["image"].removeprefix("pixtools-"))


def consumed(command: list[str]) -> set[str]:
    """Queues that a Celery worker takes messages from."""
    spare = {Queue.SMALL.value} if "--spare" in command else set()
    return spare | set(command[command.index("-Q") + 1].split(",")) if "-Q" in command else set()


def settings_named(text: str) -> set[str]:
    return {name for name in re.findall(r"\bPIXTOOLS_[A-Z0-9_]*[A-Z0-9]\b", text) if name not in NOT_OURS}


OF_CLIENTS = {"PIXTOOLS_URL", "PIXTOOLS_KEY", "PIXTOOLS_KEY_FILE"}  # read by the commands that talk to a server
KNOWN = {f"PIXTOOLS_{name.upper()}" for name in Settings.model_fields} | OF_CLIENTS


def test_every_target_is_an_image_of_the_stack() -> None:
    assert {service["image"] for service in ours().values()} == {f"pixtools-{target}" for target in TARGETS}
    for service in ours().values():
        if build := service.get("build"):
            assert f"pixtools-{build['target']}" == service["image"]


def pinned(name: str) -> set[str]:
    """Packages with versions of a file of requirements."""
    return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


def names(packages: set[str]) -> set[str]:
    return {package.split("==")[0] for package in packages}


def _of(packages: set[str], wanted: set[str]) -> set[str]:
    return {package for package in packages if names({package}) <= wanted}


def test_each_image_has_the_libraries_of_the_one_before_and_its_own() -> None:
    api, worker, denoising = map(pinned, ("requirements-api.txt", "requirements-worker.txt", "requirements.txt"))
    assert api < worker
    assert names(api) >= {"psycopg", "psycopg-binary", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}
    assert names(worker - api) >= {"numpy", "pi-heif", "pyvips", "simplejpeg"}
    assert names(denoising - worker) >= {"onnxruntime"}
    shared = names(worker) & names(denoising)  # these layers together are the image worker-ml
    assert _of(worker, shared) == _of(denoising, shared)


def test_one_process_is_installed_without_what_only_others_need() -> None:
    alone = names(pinned("requirements.txt"))
    assert alone >= {"fastapi", "opentelemetry-api", "pi-heif", "onnxruntime"}
    assert alone.isdisjoint({"psycopg", "opentelemetry-sdk", "requests", "onnx"})


def locked(text: str, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Packages that `environment` installs from a file of requirements, and their lines without the condition."""
    for line, hashes in re.findall(r"^(\S.*) \\$((?:\n .*)*)", text, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement.name, f"{requirement.name}{requirement.specifier} \\{hashes}"


@pytest.mark.timeout(600)
@pytest.mark.skipif("INFRA_SIMULATOR" not in os.environ, reason="`make infra-test` downloads the libraries of arm64")
def test_the_images_libraries_have_wheels_for_arm64(tmp_path: Path) -> None:
    """As far as a machine of the other architecture can see: pip downloads them, with the hashes that are locked."""
    (python,) = set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE))
    (sources,) = re.findall(r"--no-binary=(\S+)", (ROOT / "scripts" / "install-for-image").read_text())
    environment = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "aarch64"}
    packages = dict(locked((ROOT / "requirements.txt").read_text(), environment))
    assert packages.keys() >= {"numpy", "onnxruntime", "pyvips-binary", "simplejpeg"}
    del packages[sources]  # plain Python
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("\n".join(packages.values()))
    command = [tool("pip"), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--implementation=cp", f"--python-version={python}", "--platform=linux_aarch64"]
    command += [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(GLIBC, OLDEST_GLIBC - 1, -1)]
    result = subprocess.run(
        [*command, "--requirement", wanted, "--dest", tmp_path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    files = [path.name for path in tmp_path.glob("*.whl")]
    assert len(files) == len(packages)
    assert any(name.endswith("_aarch64.whl") for name in files)
    assert all(re.search(r"-any\.whl$|_aarch64\.whl$", name) for name in files)


def test_smoke_test_and_release_build_every_target() -> None:
    (built,) = re.findall(r"for target in ([\w -]+);", (ROOT / "tests" / "docker" / "smoke.sh").read_text())
    assert set(built.split()) == set(TARGETS)
    release = yaml.safe_load(WORKFLOWS["release"])
    assert set(release["jobs"]["publish"]["strategy"]["matrix"]["target"]) == set(TARGETS)


def test_smoke_test_imports_what_exists_and_knows_the_libraries_of_workers() -> None:
    text = (ROOT / "tests" / "docker" / "smoke.sh").read_text()
    imports = re.findall(r"^from (app[\w.]*) import (\w+)$", text, re.MULTILINE)
    assert imports
    assert all(hasattr(import_module(module), name) for module, name in imports)
    (expected,) = re.findall(r'worker \| .*\) libraries="(.*)" ;;', text)
    (optional,) = re.findall(r"optional = (\(.*\))", text)
    installed = {package.split("==")[0] for package in pinned("requirements-worker.txt")}
    assert expected.split() == [
        name for name in yaml.safe_load(optional.replace("(", "[").replace(")", "]")) if name in installed
    ]


def test_every_image_of_a_workflow_is_one_of_ours() -> None:
    named = {
        name for text in WORKFLOWS.values() for name in re.findall(r"image: (pixtools-[\w-]+)$", text, re.MULTILINE)
    }
    assert named
    assert named <= {f"pixtools-{target}" for target in TARGETS}


def test_every_queue_has_a_worker_of_its_own_in_the_stack() -> None:
    found = [queue for service in ours().values() for queue in consumed(command_of(service))]
    assert sorted(found) == sorted(queue.value for queue in Queue)
    assert DEAD_LETTER_QUEUE not in found


def test_every_worker_image_takes_another_queue_by_default() -> None:
    queues = [consumed(default_command(target)) for target in TARGETS if target.startswith("worker")]
    assert sorted(queue for taken in queues for queue in taken) == [
        "default_queue",
        "ml_inference_queue",
        "small_queue",
    ]


def test_prometheus_asks_every_process_of_the_stack() -> None:
    config = yaml.safe_load((ROOT / "k8s" / "monitoring" / "prometheus" / "compose.yaml").read_text())
    lookups = [entry for job in config["scrape_configs"] for entry in job.get("dns_sd_configs", ())]
    asked = {name: entry["port"] for entry in lookups for name in entry["names"]}
    metrics = int(STACK["x-pixtools-environment"]["PIXTOOLS_METRICS_PORT"])
    workers = {name for name, service in ours().items() if consumed(command_of(service))}
    assert asked == dict.fromkeys({"api", *workers}, metrics)


def test_the_port_is_the_same_everywhere() -> None:
    port = Settings.model_fields["port"].default
    assert re.findall(r"PIXTOOLS_PORT=(\d+)", DOCKERFILE) == [str(port)]
    assert re.findall(r"^EXPOSE (\d+)$", TARGETS["api"], re.MULTILINE) == [str(port)]
    environment = STACK["x-pixtools-environment"]
    assert environment["PIXTOOLS_PORT"] == str(port)
    assert STACK["services"]["api"]["ports"] == [f"127.0.0.1:${{PIXTOOLS_PORT:-{port}}}:{port}"]
    assert environment["PIXTOOLS_PUBLIC_URL"] == f"http://127.0.0.1:${{PIXTOOLS_PORT:-{port}}}"


def test_the_files_name_only_settings_that_exist() -> None:
    for text in (DOCKERFILE, (ROOT / "docker-compose.yaml").read_text(), *WORKFLOWS.values()):
        assert settings_named(text) <= KNOWN


def test_every_setting_reaches_its_container() -> None:
    """By .env, which wins over nothing that the stack itself has decided."""
    for name, service in ours().items():
        assert service["env_file"] == [{"path": ".env", "required": False}], name
        assert STACK["x-pixtools-environment"].items() <= service["environment"].items(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_settings_that_exist(path: Path) -> None:
    assert settings_named(path.read_text()) <= KNOWN


def test_containers_of_ours_can_do_little() -> None:
    for name, service in ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
    assert re.search(r"^USER 10001:10001$", stages()["runtime"], re.MULTILINE)
    assert all("\nUSER" not in text and "\nHEALTHCHECK" in text for text in TARGETS.values())


def test_workers_have_time_to_drain() -> None:
    for service in ours().values():
        if {Queue.DEFAULT, Queue.ML} & consumed(command_of(service)):
            grace = int(service["stop_grace_period"].removesuffix("s"))
            assert grace > Settings.model_fields["drain_seconds"].default


def test_servers_are_pinned_and_published_on_this_machine_only() -> None:
    for name, service in STACK["services"].items():
        if not service["image"].startswith("pixtools-"):
            assert re.search(r":v?\d", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in WORKFLOWS.items():
        for job, content in yaml.safe_load(text)["jobs"].items():
            yield f"{name}: {job}", content


def test_workflows_may_do_no_more_than_they_say() -> None:
    for text in WORKFLOWS.values():
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        assert workflow["concurrency"]
    writing = {name for name, job in jobs() if "write" in job["permissions"].values()}
    assert writing == {"release: publish"}
    assert all(1 <= job["timeout-minutes"] <= 60 for _, job in jobs())


def test_actions_are_pinned_by_commit_and_to_one_version_each() -> None:
    used = [match for text in WORKFLOWS.values() for match in ACTION.finditer(text)]
    assert len(used) == sum(text.count("uses: ") for text in WORKFLOWS.values())
    assert all(re.fullmatch(r"[0-9a-f]{40}", match["revision"]) and match["comment"] for match in used)
    assert len({match["name"] for match in used}) == len({match.group() for match in used})


def test_checkov_finds_nothing_in_workflows() -> None:
    assert checkov("github_actions", "--directory", ROOT / ".github") == set()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_checkov_finds_nothing_in_images_and_every_skip_is_needed(path: Path, tmp_path: Path) -> None:
    assert checkov("dockerfile", "--file", path) == set()
    skipped = SKIP.findall(path.read_text())
    bare = tmp_path / path.name
    bare.write_text(SKIP.sub("", path.read_text()))
    assert "checkov:skip" not in bare.read_text(), "without a reason"
    assert checkov("dockerfile", "--file", bare) == set(skipped)


@pytest.mark.parametrize("wrong", ["USER root", "RUN sudo true"])
def test_checkov_would_find_what_is_wrong(wrong: str, tmp_path: Path) -> None:
    changed = tmp_path / "Dockerfile"
    changed.write_text(f"{DOCKERFILE}\n{wrong}\n")
    assert checkov("dockerfile", "--file", changed)


def test_every_python_that_may_run_it_is_tested_and_pytorch_comes_without_cuda() -> None:
    job = yaml.safe_load(WORKFLOWS["ci"])["jobs"]["test"]
    tested = job["strategy"]["matrix"]["python"]
    (oldest,) = re.findall(r'^requires-python = ">=([\d.]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (shipped,) = set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE))
    assert tested[0] == oldest
    assert shipped in tested
    minors = [int(version.removeprefix("3.")) for version in tested]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert job["env"] == {"PIP_EXTRA_INDEX_URL": "${{ vars.TORCH_INDEX_URL }}"}


def test_every_image_is_scanned_on_a_schedule_and_released_for_the_architectures_of_infra() -> None:
    scan = yaml.safe_load(WORKFLOWS["scan"])
    assert scan[True]["schedule"], "YAML reads `on` as true"
    assert set(scan["jobs"]["image"]["strategy"]["matrix"]["target"]) == set(TARGETS)
    (platforms,) = re.findall(r"--platform (\S+)", WORKFLOWS["release"])
    (named,) = re.findall(r"contains\(\[(.*)\], var\.architecture\)", (ROOT / "infra" / "variables.tf").read_text())
    of_docker = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
    assert platforms.split(",") == [of_docker[name] for name in re.findall(r'"(\w+)"', named)]


def test_digests_are_renovates_alone() -> None:
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= set(
        json.loads((ROOT / "renovate.json").read_text())["extends"]
    )


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = [step.get("run", "") for _, job in jobs() for step in job["steps"]]
    assert {"make check", "make test", "make infra-test"} <= set(commands)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    texts = [path.read_text() for path in DOCUMENTS] + list(WORKFLOWS.values())
    named = {name for text in texts for name in re.findall(r"(?:`|\$ |run: )make ([a-z-]+)", text)}
    assert {"run", "test", "check"} <= named <= targets


def test_every_target_of_make_is_phony_and_explained() -> None:
    targets = re.findall(r"^([a-z-]+):.*$", MAKEFILE, re.MULTILINE)
    assert targets == re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE)
    assert targets == re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE)
