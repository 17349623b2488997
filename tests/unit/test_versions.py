"""The README and the pinned versions match the test matrix."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"[\w.-]+==[\w.!+-]+( ; .*)?")

pytestmark = pytest.mark.once


def test_the_readme_lists_the_versions_of_the_matrix() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    pythons = re.findall(r"Python :: (3\.\d+)$", "\n".join(classifiers), re.M)
    pinned = [path.stem.removeprefix("airflow-") for path in (ROOT / "constraints").glob("airflow-*.in")]
    airflows = [version for version in pinned if not Version(version).is_prerelease]
    newest = max(airflows, key=Version)

    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([\d., ]+) \|", (ROOT / "README.md").read_text(), re.M)

    assert {airflow: named.split(", ") for airflow, named in rows} == {
        airflow: pythons if airflow == newest else pythons[:1] for airflow in airflows
    }


@pytest.mark.parametrize("wanted", sorted((ROOT / "constraints").glob("*.in")), ids=lambda path: path.stem)
def test_the_pins_contain_the_requested_airflow_and_no_index_url(wanted: Path) -> None:
    pinned = wanted.with_suffix(".txt").read_text().splitlines()

    [airflow] = [line for line in wanted.read_text().splitlines() if line.startswith("apache-airflow==")]
    assert wanted.stem in ("cluster", airflow.replace("apache-airflow==", "airflow-"))
    assert airflow in pinned
    assert [line for line in pinned if not PIN.fullmatch(line)] == []


def test_the_pins_of_the_documentation_site_contain_its_tools_and_no_index_url() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["docs"]
    pinned = (ROOT / "constraints" / "docs.txt").read_text().splitlines()

    assert set(tools) <= {line.partition("==")[0] for line in pinned}
    assert [line for line in pinned if not PIN.fullmatch(line)] == []
