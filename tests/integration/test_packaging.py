"""The wheel and the sdist: their content, their metadata, and the wheel in an otherwise empty environment."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import airflow_provider_faraday
import local_airflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.once

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
from airflow_provider_faraday.operators import datasets
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

with DAG("from_the_wheel", schedule=None):
    listed = datasets.ListConnectionDatasetsOperator(
        task_id="list", connection_id="c0000000-0000-4000-8000-000000000001"
    )
    scope = datasets.ListScopeDatasetsOperator(
        task_id="scope", scope_id="50000000-0000-4000-8000-000000000001", fields=["id"]
    )
    wait = DatasetsReadySensor(
        task_id="wait", datasets=scope.output, poke_interval=0.2, timeout=60, deferrable=True
    )

    @task
    def names(listed: list, waited: list) -> str:
        there = {dataset["name"] for dataset in FaradayHook().list_datasets()}
        assert {dataset["name"] for dataset in [*listed, *waited]} <= there
        return f"ready: {sorted(dataset['name'] for dataset in waited)}"

    @task
    def say(names: str) -> None:
        print(names)

    say(names(listed.output, wait.output))
"""
FORM = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(faraday,) = [each for each in HookMetaService.hook_meta_data() if each.connection_type == "faraday"]
print(faraday.model_dump_json())
"""


def check_run(*command: object, **options: Any) -> None:
    ran = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def build(source: Path, into: Path, target: str) -> Path:
    """Build a distribution with the installed build backend, without the network."""
    hatchling = [sys.executable, "-m", "hatchling"]
    check_run(*hatchling, "build", "--target", target, "--directory", into, cwd=source)
    (path,) = into.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


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


def test_the_metadata_lists_license_classifiers_and_dependencies(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-faraday", VERSION)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert {
        "Framework :: Apache Airflow :: Provider",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Typing :: Typed",
    } <= set(metadata.get_all("Classifier", []))
    requirements = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.match(r"[a-z0-9-]+", line)[0] for line in requirements} == {  # type: ignore[index]
        "aiohttp",
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "fsspec",
        "msgspec",
        "requests",
        "tenacity",
        "urllib3",
    }


def test_the_description_is_the_readme(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()


@pytest.fixture(scope="module")
def python(wheel: Path, shared_directory: Callable[..., Path]) -> Path:
    """Return the Python of an environment with only the wheel, without extras, and its dependencies."""
    uv = [sys.executable, "-m", "uv"]

    def install(venv: Path) -> None:
        check_run(*uv, "venv", "--clear", "--python", sys.executable, venv)
        python = venv / "bin" / "python"
        check_run(*uv, "pip", "install", "--constraint", CONSTRAINTS, "--python", python, wheel)

    return shared_directory("wheel-only", install) / "bin" / "python"


@pytest.fixture(scope="module")
def home(python: Path, shared_directory: Callable[..., Path]) -> Path:
    """Return an ``AIRFLOW_HOME`` for that environment, with a metadata database and a DAG."""

    def create(home: Path) -> None:
        (home / "dags").mkdir()
        (home / "dags" / "from_the_wheel.py").write_text(DAG_FILE)
        env = local_airflow.environment(home, home / "dags")
        check_run(python, "-m", "airflow", "db", "migrate", cwd=home, env=env)

    return shared_directory("wheel-only-home", create)


@pytest.fixture
def run(python: Path, home: Path, sandbox: Sandbox) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run that environment's Python outside of the repository, with an Airflow connection to the sandbox."""
    connection = {"conn_type": "faraday", "host": sandbox.url, "password": sandbox.api_key}
    env = local_airflow.environment(home, home / "dags", {"faraday_default": connection})

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *arguments],
            cwd=home,
            env={**env, "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def parsed_last_line(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_installs_the_example_dags_and_no_extras(run: Any, python: Path) -> None:
    program = (
        "import importlib.util, json, airflow_provider_faraday as package; "
        "print(json.dumps([package.__file__, importlib.util.find_spec('hypothesis') is None]))"
    )

    where, without_extras = parsed_last_line(run("-c", program))

    environment = python.parents[1]
    assert Path(where).is_relative_to(environment)
    assert without_extras
    examples = environment / "share" / "doc" / "airflow-provider-faraday" / "example_dags"
    assert {path.name for path in examples.glob("*.py")} == EXAMPLES


def test_airflow_lists_the_provider_and_its_connection_type(run: Any) -> None:
    providers = parsed_last_line(run("-m", "airflow", "providers", "list", "--output", "json"))
    assert {each["package_name"]: each["version"] for each in providers}[
        "airflow-provider-faraday"
    ] == VERSION

    (provider,) = parsed_last_line(
        run("-m", "airflow", "providers", "get", "airflow-provider-faraday", "--full", "--output", "json")
    )
    assert provider["name"] == "Faraday"

    hooks = parsed_last_line(run("-m", "airflow", "providers", "hooks", "--output", "json"))
    (hook,) = [each for each in hooks if each["connection_type"] == "faraday"]
    assert hook["class"] == "airflow_provider_faraday.hooks.faraday.FaradayHook"
    assert hook["package_name"] == "airflow-provider-faraday"


def test_the_connection_form_has_the_labels_and_fields_of_the_provider(run: Any) -> None:
    form = parsed_last_line(run("-c", FORM))

    assert form["standard_fields"]["password"]["title"] == "API key"
    assert form["standard_fields"]["host"]["title"] == "Base URL"
    names = {"timeout", "max_attempts", "proxy", "verify", "allow_http", "webhook_secret"}
    assert set(form["extra_fields"]) == names


def test_the_airflow_connection_can_be_tested(run: Any, sandbox: Sandbox) -> None:
    ran = run("-m", "airflow", "connections", "test", "faraday_default")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Connection success!" in ran.stdout
    assert sandbox.requests() != []
    assert sandbox.api_key not in ran.stdout + ran.stderr


def test_the_hook_the_operators_and_the_sensor_run_in_a_dag(run: Any, sandbox: Sandbox) -> None:
    ran = run("-m", "airflow", "dags", "test", "from_the_wheel")

    log = ran.stdout + ran.stderr
    assert ran.returncode == 0, log
    assert "ready: ['customers', 'orders']" in log
    paths = {request["path"] for request in sandbox.requests()}
    assert {
        "/v1/connections/c0000000-0000-4000-8000-000000000001/datasets",
        "/v1/scopes/50000000-0000-4000-8000-000000000001/datasets",
        "/v1/datasets",
    } <= paths
    assert sandbox.api_key not in log
