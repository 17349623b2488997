"""Consistency of the project files: minimum versions, version number, workflows, owners."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import airflow_provider_faraday

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Tags can move, so actions are pinned by commit hash. The comment has the version for readers.
PINNED = re.compile(
    r"uses: (\./\.github/workflows/[a-z]+\.yml|[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)"
)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs_of(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def test_the_floors_pin_every_lower_bound() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints" / "floors.txt").read_text().split())
    project = PYPROJECT["project"]
    everything = [
        *PYPROJECT["build-system"]["requires"],
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    bounds = {
        requirement.name: bound
        for requirement in map(Requirement, everything)
        for bound in requirement.specifier
    }

    assert "aiohttp" in bounds
    assert {name: bound.operator for name, bound in bounds.items()} == dict.fromkeys(bounds, ">=")
    assert {name: Version(pins[name]) for name in bounds} == {
        name: Version(bound.version) for name, bound in bounds.items()
    }


def test_the_minimum_of_common_compat_is_pinned_with_the_newest_airflow_too() -> None:
    compat = "apache-airflow-providers-common-compat"
    pins = {
        name: (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
        for name in ("floors", "floors-newest", "airflow-3.3.2")
    }

    [minimum] = [pin for pin in pins["floors"] if pin.startswith(compat)]
    assert minimum in pins["floors-newest"]
    assert {"apache-airflow==3.3.2"} <= {*pins["floors-newest"]} & {*pins["airflow-3.3.2"]}


def test_the_version_is_in_one_file_and_in_the_changelog() -> None:
    version = airflow_provider_faraday.__version__
    package = ROOT / "airflow_provider_faraday"
    files = [
        *package.rglob("*.py"),
        *(ROOT / "scripts").iterdir(),
        ROOT / "pyproject.toml",
        ROOT / "README.md",
    ]

    holding = [path for path in files if path.is_file() and version in path.read_text()]

    assert holding == [package / "__init__.py"]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_their_actions_and_keep_no_credentials(workflow: Path) -> None:
    text = workflow.read_text()

    uses = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []
    steps = [step for job in jobs_of(workflow).values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= make_targets()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_only_the_jobs_that_publish_or_report_have_more_than_read_permission(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    allowed = {name: job["permissions"] for name, job in jobs_of(workflow).items()}

    if workflow.stem == "release":
        assert allowed.pop("publish") == {"id-token": "write"}
        assert allowed.pop("site") == {"id-token": "write", "pages": "write"}
    if workflow.stem == "published-api":
        assert allowed.pop("compare") == {"contents": "read", "issues": "write"}
    assert [permissions for permissions in allowed.values() if permissions != {"contents": "read"}] == []


@pytest.mark.parametrize(("tag", "status"), [("right", 0), ("wrong", 1)])
def test_a_tag_that_does_not_match_the_version_stops_the_release(
    tmp_path: Path, tag: str, status: int
) -> None:
    (check,) = [
        step
        for step in jobs_of(WORKFLOWS[-1])["build"]["steps"]
        if step.get("name", "").startswith("Check that the tag")
    ]
    version = airflow_provider_faraday.__version__
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / f"airflow_provider_faraday-{version}-py3-none-any.whl").touch()

    ran = subprocess.run(
        ["/bin/sh", "-e", "-c", check["run"]],
        cwd=tmp_path,
        env={"GITHUB_REF_NAME": f"v{version}" if tag == "right" else "v9.9.9"},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == status
    assert ("v9.9.9" in ran.stderr) == (tag == "wrong")


def test_the_owners_are_named_once_the_project_is_on_github() -> None:
    *_, owners = (ROOT / ".github" / "CODEOWNERS").read_text().splitlines()

    assert re.fullmatch(r"\* @[\w-]+(/[\w-]+)?", owners)
    if "GITHUB_ACTIONS" in os.environ:
        assert "PLACEHOLDER" not in owners, "Name the maintainers in .github/CODEOWNERS."


def test_dependabot_updates_the_actions_weekly_after_a_cooldown() -> None:
    [updates] = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]

    assert updates["package-ecosystem"] == "github-actions"
    assert updates["schedule"]["interval"] == "weekly"
    assert updates["cooldown"]["default-days"] >= 7


@pytest.mark.parametrize(
    ("compare", "open_issues", "status", "created"),
    [
        ("exit 0", 0, 0, ""),
        ("echo changed; exit 2", 0, 0, "issue create --title T --body-file -\n    changed\n"),
        ("echo changed; exit 2", 1, 0, ""),
        ("echo no network >&2; exit 2", 0, 1, ""),
    ],
)
def test_one_issue_is_opened_if_the_published_api_has_changed(
    tmp_path: Path, compare: str, open_issues: int, status: int, created: str
) -> None:
    *_, step = jobs_of(ROOT / ".github" / "workflows" / "published-api.yml")["compare"]["steps"]
    gh = f'[ "$2" = list ] && echo {open_issues} || {{ echo "$*"; cat; }} > created'
    for name, script in {"make": compare, "gh": gh}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TITLE": "T"}
    result = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment)

    assert result.returncode == status
    issue = tmp_path / "created"
    assert (issue.read_text() if issue.exists() else "") == created
