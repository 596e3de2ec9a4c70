"""Rules, dashboards and runbooks: that they are right, complete and of one mind with the code."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.commands.root import app
from tests.chaos.matrix import FAULTS
from tests.drills.drills import DRILLS, Drill
from tests.support.catalogue import all_names
from tests.support.server import INSTALL_HINT

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
RULES = [MONITORING / "prometheus" / f"{name}.yaml" for name in ("thresholds", "slo", "alerts")]
UNIT_TESTS = ROOT / "tests" / "monitoring" / "alerts.yaml"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
METRIC = re.compile(
    r"(?<![\w:\"{=~.-])(?:pixtools|celery|kube|container|rabbitmq|traefik|up|ALERTS)[\w:]*(?=\s*(?:[{\[)]|$|[<>=/*+-]|\s(?:or|and|unless)\b|\s))"
)
SUFFIXES = ("_bucket", "_count", "_sum")
ALWAYS = {"PixToolsWatchdog"}  # fires, so that its silence means something


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.fail(f"promtool is not installed: {INSTALL_HINT}", pytrace=False)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=180)


@cache
def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@cache
def unit_tests() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(UNIT_TESTS.read_text())
    return document


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        yield from ((path.stem, panel) for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    """Of every panel, with what Grafana fills in."""
    found = [target["expr"] for _, panel in panels() for target in panel["targets"]]
    return [expression.replace("$__rate_interval", "1m") for expression in found]


def known() -> set[str]:
    """Every metric that may be used."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = yaml.safe_load((MONITORING / "exporters.yaml").read_text())
    ours = {name + suffix for name in all_names() for suffix in ("", *SUFFIXES)}
    return ours | recorded | {name for names in exported.values() for name in names}


def used(expression: str) -> set[str]:
    return set(METRIC.findall(expression))


def test_the_rules_hold() -> None:
    done = promtool("check", "rules", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def needed(names: set[str]) -> list[dict[str, Any]]:
    """The rules of these alerts, and those that they refer to."""
    wanted, missing = set[str](), names
    while missing:
        wanted |= missing
        asked = [rule["expr"] for rule in rules() if rule.get("alert", rule.get("record")) in missing]
        missing = set().union(*map(used, asked)) - wanted
    return [rule for rule in rules() if rule.get("alert", rule.get("record")) in wanted]


def test_every_alert_fires_and_clears_when_it_should(tmp_path: Path) -> None:
    """Each unit test with the rules that its alerts need, the first one, in which all is well, with all of them."""
    for number, test in enumerate(unit_tests()["tests"]):
        chosen = needed({case["alertname"] for case in test["alert_rule_test"]})
        (tmp_path / f"rules-{number}.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": chosen}]}))
        copy = {**unit_tests(), "rule_files": [f"rules-{number}.yaml"], "tests": [test]}
        (tmp_path / f"tests-{number}.yaml").write_text(yaml.safe_dump(copy))
    assert len(needed(set(alerts()))) == len(rules())
    done = promtool("test", "rules", *sorted(tmp_path.glob("tests-*.yaml")))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_every_alert_fires_and_clears_among_all_others() -> None:
    done = promtool("test", "rules", UNIT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def firing(names: set[str]) -> Iterator[dict[str, Any]]:
    """For each of these alerts the first unit test in which it fires, with nothing of other alerts."""
    for test in unit_tests()["tests"]:
        mine = {case["alertname"] for case in test["alert_rule_test"] if case["exp_alerts"]} & names
        if mine:
            names = names - mine
            cases = [case for case in test["alert_rule_test"] if case["alertname"] in mine]
            yield {**test, "alert_rule_test": cases}


@pytest.mark.full  # it tests the tests
def test_the_unit_tests_would_see_another_threshold(tmp_path: Path) -> None:
    compared = {name for name, rule in alerts().items() if ":threshold:" in rule["expr"]}
    text, changed = re.subn(r"(:threshold:\w+\n +expr: )vector\(.*\)", r"\1vector(1e9)", RULES[0].read_text())
    (tmp_path / "thresholds.yaml").write_text(text)
    others = [rule for rule in rules() if rule.get("alert") in compared or "slo_errors" in rule.get("record", "")]
    (tmp_path / "others.yaml").write_text(yaml.safe_dump({"groups": [{"name": "others", "rules": others}]}))
    copy = {**unit_tests(), "rule_files": ["thresholds.yaml", "others.yaml"]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({**copy, "tests": list(firing(compared))}))
    assert changed == 12
    assert len(compared) == 11
    done = promtool("test", "rules", tmp_path / "tests.yaml")
    assert set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == compared


def test_counters_of_rules_begin_at_zero() -> None:
    """Prometheus sees no increase in a series that appears with a value, so the first failures would not count."""
    code = "from app import metrics; print(metrics.render('')[0].decode())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    samples = [sample for family in text_string_to_metric_families(ran.stdout) for sample in family.samples]
    expressions = "\n".join(rule["expr"] for rule in rules())
    asked = {
        (name, label, value)
        for name, matchers in re.findall(r"(pixtools_\w+_total)\{(.*?)\}\[", expressions)
        for label, values in re.findall(r'(\w+)=~?"(.*?)"', matchers)
        for value in values.split("|")
    }
    assert {name for name, _, _ in asked} == {
        *("pixtools_jobs_total", "pixtools_step_errors_total", "pixtools_uploads_total")
    }
    there = {(sample.name, label, value) for sample in samples for label, value in sample.labels.items()}
    assert asked - there == set()
    assert all(sample.value == 0 for sample in samples if sample.name in {name for name, _, _ in asked})


def test_every_alert_has_unit_tests_that_it_fires_and_does_not() -> None:
    cases = [case for test in unit_tests()["tests"] for case in test["alert_rule_test"]]
    for name in alerts():
        assert any(case["alertname"] == name and case["exp_alerts"] for case in cases), name
        assert name in ALWAYS or any(case["alertname"] == name and not case["exp_alerts"] for case in cases), name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    runbooks = {path.stem: path.read_text() for path in RUNBOOKS if path.stem.startswith("PixTools")}
    assert set(runbooks) == set(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert rule["labels"]["severity"] in {"page", "ticket", "heartbeat"}
        assert "for" in rule
        assert all(f"\n## {heading}\n" in runbooks[name] for heading in ("What it means", "Look", "Repair"))


def test_every_metric_in_a_runbook_exists() -> None:
    there = known() | {"pixtools_dependency_up"}
    for path in RUNBOOKS:
        assert set(re.findall(r"\bpixtools_\w+", path.read_text())) <= there, path.name


def test_the_index_names_every_runbook_and_drill() -> None:
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text()
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == {path.name for path in RUNBOOKS} - {"README.md"}


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_every_drill_is_told_with_what_exists(drill: Drill) -> None:
    text = (ROOT / "docs" / "runbooks" / f"drill-{drill.name}.md").read_text()
    assert all(f"\n## {heading}\n" in text for heading in ("See", "Do", "Rehearse", "Seen"))
    assert f"make drills ARGS='--only {drill.name}'" in text
    assert set(re.findall(r"\bPixTools[A-Z]\w+", text)) <= set(alerts())
    for rows in re.findall(r"tests\.chaos --rows '([^']+)'", text):
        assert any(rows in fault.name for fault in FAULTS), rows
    code = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    for event in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text):
        assert f'"{event}"' in code, event


def test_every_command_in_a_runbook_exists() -> None:
    commands = [
        command for path in RUNBOOKS for command in re.findall(r"pixtools ([a-z]+)(?: ([a-z]+))?", path.read_text())
    ]
    known_groups = {group.name: group for group in app.registered_groups}
    plain = {(command.name or command.callback.__name__) for command in app.registered_commands if command.callback}
    assert len(commands) > 10
    for name, below in commands:
        if name in known_groups:
            under = known_groups[name].typer_instance
            assert under is not None
            assert below in {entry.name for entry in (*under.registered_commands, *under.registered_groups)}, below
        else:
            assert name in plain, name


def test_every_metric_in_a_rule_or_panel_exists() -> None:
    expressions = [*(rule["expr"] for rule in rules()), *queries()]
    names = set().union(*map(used, expressions))
    assert len(names) > 40, "the pattern finds them"
    assert names <= known()


def test_every_metric_is_on_a_dashboard() -> None:
    shown = set().union(*map(used, queries()))
    shown |= {name.removesuffix(suffix) for name in shown for suffix in SUFFIXES}
    assert set(all_names()) - shown == {
        "pixtools_expired_jobs_total",
        "pixtools_outbox_waiting",
        "pixtools_retention_failures_total",
    }


def test_thresholds_are_named_once() -> None:
    for name, rule in alerts().items():
        compared = set(re.findall(r"[<>]=?\s*(\d[\d.]*)", rule["expr"]))
        assert compared <= {"0", "1"}, f"{name} has a number of its own"
    for expression in queries():
        assert not re.search(r"[<>]=?\s*\d", expression), expression


def test_every_panels_query_can_be_parsed(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(recorded) > 40
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_what_grafana_provisions() -> None:
    source = yaml.safe_load((MONITORING / "grafana" / "provisioning" / "datasources.yaml").read_text())["datasources"][
        0
    ]
    uids = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(uids)) == len(uids) == 3
    for name, panel in panels():
        assert panel["datasource"]["uid"] == source["uid"], (name, panel["title"])
        assert all(target["datasource"]["uid"] == source["uid"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["type"] in {"timeseries", "stat"}


def test_every_panel_asks_one_question_with_a_unit_and_room_to_be_read() -> None:
    units = {"s", "ops", "Bps", "none", "short", "percentunit"}
    for name, panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"] in units, (name, panel["title"])
        assert panel["description"], (name, panel["title"])
        if panel["type"] == "timeseries":
            assert "?" in panel["title"], (name, panel["title"])
            assert panel["gridPos"]["w"] >= 12, (name, panel["title"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_is_in_a_row(path: Path) -> None:
    found = json.loads(path.read_text())["panels"]
    assert found[0]["type"] == "row"
    assert sum(panel["type"] == "row" for panel in found) >= 3


def test_limits_are_drawn_as_limits() -> None:
    for name, panel in panels():
        limits = {target["legendFormat"] for target in panel["targets"] if ":threshold:" in target["expr"]}
        assert all(limit.startswith("limit: ") for limit in limits), (name, panel["title"])
        dashed = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert dashed == limits


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    found = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    for one, other in combinations(found, 2):
        a, b = one["gridPos"], other["gridPos"]
        side_by_side = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert side_by_side or below, (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in found)


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_prometheus_takes_its_configuration(name: str, tmp_path: Path) -> None:
    config = yaml.safe_load((MONITORING / "prometheus" / f"{name}.yaml").read_text())
    assert config["rule_files"] == [path.name for path in RULES]
    for scraped in config["scrape_configs"]:
        if scraped.pop("kubernetes_sd_configs", None):  # Debian's Prometheus does not know Kubernetes
            scraped["file_sd_configs"] = [{"files": ["targets.json"]}]
            scraped.pop("authorization", None)  # nor is there a pod's token on this machine
            scraped.pop("tls_config", None)
    for path in RULES:
        shutil.copy(path, tmp_path)
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_and_kubernetes_give_their_targets_the_names_that_rules_use() -> None:
    compose = yaml.safe_load((MONITORING / "prometheus" / "compose.yaml").read_text())["scrape_configs"]
    assert [scraped["job_name"] for scraped in compose] == ["pixtools-api", "pixtools-worker", "celery-exporter"]
    stack = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    for scraped in compose[:2]:
        (found,) = scraped["dns_sd_configs"]
        assert set(found["names"]) <= set(stack["services"])
    assert compose[1]["dns_sd_configs"][0]["port"] == int(stack["x-pixtools-environment"]["PIXTOOLS_METRICS_PORT"])
    asked = set().union(*(re.findall(r'job="([\w-]+)"', rule["expr"]) for rule in rules()))
    assert asked == {"pixtools-api"}
    kubernetes = (MONITORING / "prometheus" / "kubernetes.yaml").read_text()
    assert "replacement: pixtools-$1" in kubernetes


def test_kustomize_takes_every_file() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    named = [file.split("=")[-1] for entry in kustomization["configMapGenerator"] for file in entry["files"]]
    named += kustomization["resources"]
    assert all((MONITORING / file).is_file() for file in named)
    assert {f"grafana/dashboards/{path.name}" for path in DASHBOARDS} <= set(named)
    maps = {entry["name"] for entry in kustomization["configMapGenerator"]}
    mounted = set()
    for file in kustomization["resources"]:
        for document in yaml.safe_load_all((MONITORING / file).read_text()):
            if document["kind"] in {"Deployment", "StatefulSet"}:
                volumes = document["spec"]["template"]["spec"].get("volumes", [])
                mounted |= {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert mounted == maps
