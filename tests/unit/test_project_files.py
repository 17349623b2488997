"""Consistency of the project files: versions and workflows."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from airflow_provider_faraday import __version__ as VERSION

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = ROOT / ".github" / "workflows"
PIN = re.compile(r"[\w.-]+==[\w.!+-]+( ; .*)?")


def pins_of(path: Path) -> list[str]:
    """Return the lines of a file that consists of pinned versions, without index URLs."""
    lines = path.read_text().splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    return lines


def test_the_floors_pin_every_lower_bound() -> None:
    pins = dict(line.split("==") for line in pins_of(ROOT / "constraints" / "floors.txt"))
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

    assert {bound.operator for bound in bounds.values()} == {">="}
    assert {name: Version(pins[name]) for name in bounds} == {
        name: Version(bound.version) for name, bound in bounds.items()
    }
    compat = "apache-airflow-providers-common-compat"
    newest = pins_of(ROOT / "constraints" / "floors-newest.txt")
    assert {f"{compat}=={pins[compat]}", "apache-airflow==3.3.2"} <= {*newest}


def test_the_version_is_in_one_file_and_in_the_changelog() -> None:
    package = ROOT / "airflow_provider_faraday"
    files = [
        *package.rglob("*.py"),
        *(ROOT / "scripts").glob("*.*"),
        *ROOT.glob("*.toml"),
        ROOT / "README.md",
    ]

    assert [path for path in files if VERSION in path.read_text()] == [package / "__init__.py"]
    assert f"\n## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_lists_the_versions_of_the_matrix() -> None:
    pythons = re.findall(r"Python :: (3\.\d+)$", "\n".join(PYPROJECT["project"]["classifiers"]), re.M)
    pinned = [path.stem.removeprefix("airflow-") for path in (ROOT / "constraints").glob("airflow-*.in")]
    airflows = [version for version in pinned if not Version(version).is_prerelease]
    newest = max(airflows, key=Version)

    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([\d., ]+) \|", (ROOT / "README.md").read_text(), re.M)

    assert {airflow: named.split(", ") for airflow, named in rows} == {
        airflow: pythons if airflow == newest else pythons[:1] for airflow in airflows
    }


@pytest.mark.parametrize("wanted", sorted((ROOT / "constraints").glob("*.in")), ids=lambda path: path.stem)
def test_the_pins_contain_the_requested_airflow(wanted: Path) -> None:
    [airflow] = [line for line in wanted.read_text().splitlines() if line.startswith("apache-airflow==")]

    assert wanted.stem in ("cluster", airflow.replace("apache-airflow==", "airflow-"))
    assert airflow in pins_of(wanted.with_suffix(".txt"))


def test_the_workflows_use_make_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    workflows = "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))
    used = {*re.findall(r"\bmake ([a-z]+)", workflows)}

    assert "matrix" in used
    assert [name for name in used if f"\n{name}:" not in makefile] == []


@pytest.mark.parametrize(("tag", "status"), [(f"v{VERSION}", 0), ("v9.9.9", 1)])
def test_a_tag_that_does_not_match_the_version_stops_the_release(
    tmp_path: Path, tag: str, status: int
) -> None:
    steps = yaml.safe_load((WORKFLOWS / "release.yml").read_text())["jobs"]["build"]["steps"]
    (check,) = [step["run"] for step in steps if step.get("name", "").startswith("Check that the tag")]
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / f"airflow_provider_faraday-{VERSION}-py3-none-any.whl").touch()

    ran = subprocess.run(["/bin/sh", "-e", "-c", check], cwd=tmp_path, env={"GITHUB_REF_NAME": tag})

    assert ran.returncode == status
