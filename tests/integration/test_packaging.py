"""The wheel and the sdist: their content, their metadata, and the wheel in an otherwise empty environment."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import airflow_provider_faraday
import local_airflow

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints" / "airflow-3.3.2.txt"
VERSION = airflow_provider_faraday.__version__
NAME = f"airflow_provider_faraday-{VERSION}"
EXAMPLES = {path.name for path in (ROOT / "example_dags").glob("*.py")}
# Python modules match by pattern. All other files are listed by name.
PACKAGE_FILE = re.compile(r"airflow_provider_faraday/([a-z_]+/)?[a-z_]+\.py")
PACKAGE_DATA = {
    "airflow_provider_faraday/provider_info.json",
    "airflow_provider_faraday/py.typed",
    "airflow_provider_faraday/sandbox/about.txt",
    "airflow_provider_faraday/sandbox/account.json",
    "airflow_provider_faraday/sandbox/kinds.json",
    "airflow_provider_faraday/sandbox/page.html",
}
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import ListScopeDatasetsOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG("from_the_wheel", schedule=None):
    scope = ListScopeDatasetsOperator(
        task_id="scope", scope_id="50000000-0000-4000-8000-000000000001", fields=["id"]
    )
    wait = DatasetsReadySensor(
        task_id="wait", datasets=scope.output, poke_interval=0.2, timeout=600, deferrable=True
    )

    @task
    def say(waited: list) -> None:
        names = sorted(dataset["name"] for dataset in waited)
        assert {*names} < {dataset["name"] for dataset in FaradayHook().list_datasets()}
        print(f"ready: {names}")

    say(wait.output)
"""
PROGRAM = """
import importlib.util, json, sys
from pathlib import Path
import airflow_provider_faraday as package
from airflow.__main__ import main
from airflow.providers_manager import ProvidersManager

Path("facts.json").write_text(json.dumps({
    "file": package.__file__,
    "has extras": importlib.util.find_spec("hypothesis") is not None,
    "version": ProvidersManager().providers["airflow-provider-faraday"].version,
}))
for command in ("db migrate", "connections test faraday_default", "dags test from_the_wheel"):
    sys.argv = ["airflow", *command.split()]
    main()
"""


def run(*command: object, **options: Any) -> str:
    """Run a command that succeeds, and return its output."""
    ran = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def build(source: Path, into: Path, target: str) -> Path:
    """Build a distribution with the installed build backend, without the network."""
    hatchling = [sys.executable, "-m", "hatchling"]
    run(*hatchling, "build", "--target", target, "--directory", into, cwd=source)
    (path,) = into.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def except_modules(names: set[str]) -> set[str]:
    return {name for name in names if not PACKAGE_FILE.fullmatch(name)}


def test_the_wheel_contains_only_the_package_and_the_example_dags(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    about = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
    examples = f"{NAME}.data/data/share/doc/airflow-provider-faraday/example_dags/"
    assert except_modules(names) == {
        *PACKAGE_DATA,
        *(f"{NAME}.dist-info/{name}" for name in about),
        *(examples + name for name in EXAMPLES),
    }
    assert "airflow_provider_faraday/operators/datasets.py" in names


def test_the_sdist_contains_only_the_sources_of_the_wheel(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}

    about = ["CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"]
    assert except_modules(names) == {
        *PACKAGE_DATA,
        *about,
        *(f"example_dags/{name}" for name in EXAMPLES),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*") if path.is_file()),
    }


def test_a_wheel_built_from_the_sdist_is_identical(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, which Debian 12 has, does not support filters and ignores this attribute.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)

    from_sdist = build(tmp_path / NAME, tmp_path / "wheel", "wheel")

    assert from_sdist.name == wheel.name == f"{NAME}-py3-none-any.whl"
    assert from_sdist.read_bytes() == wheel.read_bytes()


def test_the_metadata_has_the_version_the_dependencies_and_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))

    assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-faraday", VERSION)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    requirements = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[^a-z0-9-]", line)[0] for line in requirements} == {
        "aiohttp",
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "fsspec",
        "msgspec",
        "requests",
        "tenacity",
        "urllib3",
    }
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()


def test_the_wheel_alone_runs_a_dag(wheel: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    venv, dags = tmp_path / "venv", tmp_path / "dags"
    python = venv / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    run(*uv, "venv", "--python", sys.executable, venv)
    run(*uv, "pip", "install", "--constraint", CONSTRAINTS, "--python", python, wheel)
    dags.mkdir()
    (dags / "from_the_wheel.py").write_text(DAG_FILE)
    connection = {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key}
    env = local_airflow.environment(tmp_path, dags, {"faraday_default": connection})
    env["AIRFLOW__CORE__TEST_CONNECTION"] = "Enabled"

    # Outside of the repository, so that Python does not find its files.
    log = run(python, "-c", PROGRAM, cwd=tmp_path, env=env)

    assert "Connection success!" in log
    assert "ready: ['customers', 'orders']" in log
    assert sandbox.api_key not in log
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert Path(facts.pop("file")).is_relative_to(venv)
    assert facts == {"has extras": False, "version": VERSION}
    examples = venv / "share" / "doc" / "airflow-provider-faraday" / "example_dags"
    assert {path.name for path in examples.glob("*.py")} == EXAMPLES
