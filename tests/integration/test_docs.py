"""Run the code blocks in README and docs.

The info string of a block selects how it is tested. Any other info string fails:

``python``
    execute all such blocks of a page in order, in one namespace and inside one DAG; then run this DAG, and
    every other DAG that they create, against a sandbox
``python airflow3``
    the same, but skip the block on Airflow 2
``python pytest``
    run pytest on all such blocks of a page, next to its files
``python file dags/nightly.py``
    a file that the page's tests use
``shell``
    check that each command and its options exist, and that each Airflow connection is valid; run nothing
    but curl, against a sandbox
``dockerfile``, ``yaml compose``, ``yaml helm``
    check that they install this provider, on a supported Airflow, and pass on the Airflow connection
``http``
    send the request to a sandbox
``json connections``, ``json extra``, ``json account``, ``json event``, ``json lineage``
    a file of Airflow connections, the extra of one, an account for the sandbox, the payload of an asset
    event, an OpenLineage event
``text error``
    compare with the error after an API key expired; ``…`` matches any text
``text demo``
    lines that ``make demo`` prints; ``test_demo.py`` checks them
``nginx``
    a configuration of nginx, which is not checked
"""

from __future__ import annotations

import json
import linecache
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from airflow import __version__ as airflow_version
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseSensorOperator, conf
from attr import asdict
from packaging.requirements import Requirement

from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.states import states_of
from airflow_provider_faraday.client.config import client_config
from airflow_provider_faraday.exceptions import FaradayAuthenticationError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from support.ids import CUSTOMERS, WAREHOUSE, WEB_ORDERS
from support.markdown_pages import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.markdown_pages import Block

TO_EXECUTE = {"python"}
if not airflow_version.startswith("2."):
    TO_EXECUTE.add("python airflow3")

# In its place, the blocks use a directory with the file web_orders.csv.
BUCKET = "s3://aws_default@bucket"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox with all builds finished, and later than the data interval of any DAG run."""
    with Sandbox(speed=1000, clock_offset=3600) as running:
        running.advance(60)
        yield running


@pytest.fixture
def connections(
    faraday_default: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store the Airflow connections that the blocks use."""
    monkeypatch.setenv("AIRFLOW_CONN_FARADAY_EUROPE", os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"])
    warehouse = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_DEFAULT", json.dumps(warehouse))


def blocks(kind: str) -> pytest.MarkDecorator:
    """Parametrize a test with all blocks of a kind, by page and line."""
    found = [
        pytest.param(block, id=f"{name}:{block.line}")
        for name, page in PAGES.items()
        for block in page.blocks
        if re.fullmatch(kind, block.kind)
    ]
    return pytest.mark.parametrize("block", found)


@pytest.mark.once
def test_info_strings_are_known() -> None:
    known = {
        *("python", "python airflow3", "python pytest", "python file conftest.py"),
        *("python file dags/nightly.py", "shell", "http", "text error", "text demo", "nginx", "dockerfile"),
        *("yaml compose", "yaml helm", *(f"json {what}" for what in JSON)),
    }

    assert {block.kind for page in PAGES.values() for block in page.blocks} <= known


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if any(block.kind in TO_EXECUTE for block in page.blocks)]
)
@pytest.mark.usefixtures("connections")
def test_python_blocks_run(name: str, run_dag: Callable[..., Any], sandbox: Sandbox, tmp_path: Path) -> None:
    path = ROOT / name
    (tmp_path / "web_orders.csv").write_text("order_id,email\nW-1,ada@example.com\n")
    namespace = vars(ModuleType("page"))
    with DAG(re.sub(r"\W", "_", name), schedule=None) as page_dag:
        for block in PAGES[name].blocks:
            if block.kind in TO_EXECUTE:
                # Show the page's name and line numbers in tracebacks.
                linecache.checkcache(str(path))
                text = block.text.replace(BUCKET, f"file://{tmp_path}")
                code = compile("\n" * (block.line - 1) + text, str(path), "exec", dont_inherit=True)
                exec(code, namespace)
    for dag in (page_dag, *(value for value in namespace.values() if isinstance(value, DAG))):
        for task in dag.tasks:
            if isinstance(task, BaseSensorOperator):
                # Not every minute, as by default.
                task.poke_interval = 0.2
        if dag.task_ids:
            result = run_dag(dag)
            assert {key: task for key, task in result.tasks.items() if task.state != "success"} == {}


@pytest.mark.once
def test_pytest_blocks_pass(tmp_path: Path) -> None:
    [page] = [page for page in PAGES.values() if any(each.kind == "python pytest" for each in page.blocks)]
    for block in page.blocks:
        match block.kind.split():
            case ["python", "file", name]:
                path = tmp_path / name
            case ["python", "pytest"]:
                path = tmp_path / f"test_line_{block.line}.py"
            case _:
                continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = dags\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        # As on the machine of someone who has not set up Airflow.
        env={name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.once
@blocks("shell")
def test_shell_commands_exist(
    block: Block, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        match words:
            case []:
                pass
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case ["pip", "install", wanted, *_]:
                check_requirement(Requirement(re.sub(r"^\.", "airflow-provider-faraday", wanted)))
            case ["python", "-m", "airflow_provider_faraday.sandbox", *options]:
                shown = subprocess.run(
                    [sys.executable, *words[1:3], "--help"], capture_output=True, text=True, check=True
                ).stdout
                assert {word for word in options if word.startswith("--")} <= set(
                    re.findall(r"--[\w-]+", shown)
                )
            case ["kubectl", "create", "secret", "generic", "faraday", literal]:
                key, _, value = literal.removeprefix("--from-literal=").partition("=")
                assert key == "connection"
                check_setting("AIRFLOW_CONN_FARADAY_DEFAULT", value, block, monkeypatch)
            case ["airflow", *arguments]:
                from airflow.cli.cli_parser import get_parser

                # Exits if a command or an option does not exist.
                get_parser().parse_args(arguments)
            case ["curl", "--header", header, url]:
                name, _, value = header.partition(": ")
                headers = {name: value.replace("$FARADAY_API_KEY", sandbox.api_key)}
                url = url.replace("https://api.faraday.ai/v1", sandbox.url)
                assert requests.get(url, headers=headers, timeout=60).ok
            case ["export", setting]:
                check_setting(*setting.split("=", 1), block, monkeypatch)
            case _:
                pytest.fail(f"There is no check for {line!r}.")
    assert logged_by_us(caplog) == []


def check_requirement(wanted: Requirement) -> None:
    if wanted.name == "airflow-provider-faraday":
        assert wanted.extras <= set(metadata(wanted.name).get_all("Provides-Extra"))
    else:
        assert wanted.name.startswith("apache-airflow-providers-")


def check_setting(name: str, value: str, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    match name.lower().split("__"):
        case ["airflow", section, option]:
            assert conf.has_option(section, option)
        case [variable] if variable.startswith("airflow_conn_"):
            monkeypatch.setenv(name, value)
            connection = BaseHook.get_connection(variable.removeprefix("airflow_conn_"))
            if connection.conn_type == "faraday":
                assert client_config(connection).api_key
            else:
                # Airflow's providers are named after their connection type.
                assert f"pip install apache-airflow-providers-{connection.conn_type}\n" in block.text
        case _:
            pytest.fail(f"There is no check for {name}.")


def logged_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what this provider logged, such as a warning about an unknown extra."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("airflow_provider_faraday")]


@pytest.mark.once
@blocks("dockerfile")
def test_dockerfiles_install_the_provider_on_a_supported_airflow(block: Block) -> None:
    image, install = block.text.splitlines()

    assert f"| {image.removeprefix('FROM apache/airflow:')} |" in (ROOT / "README.md").read_text()
    *_, own_version, provider = shlex.split(install.removeprefix("RUN "))
    assert own_version == "apache-airflow==${AIRFLOW_VERSION}"
    check_requirement(Requirement(provider))


@pytest.mark.once
@blocks("yaml (compose|helm)")
def test_deployments_pass_on_the_airflow_connection(block: Block) -> None:
    assert "AIRFLOW_CONN_FARADAY_DEFAULT" in str(yaml.safe_load(block.text))


@pytest.mark.once
@blocks("http")
def test_the_sandbox_accepts_http_blocks(block: Block, sandbox: Sandbox) -> None:
    first, _, body = block.text.partition("\n")
    method, path = first.split()
    content = json.loads(body) if body else None

    response = requests.request(method, sandbox.origin + path, json=content, timeout=60)

    assert response.ok, response.text


@pytest.mark.once
@blocks("json .*")
@pytest.mark.usefixtures("faraday_default")
def test_json_blocks_are_valid(block: Block, sandbox: Sandbox, tmp_path: Path, caplog) -> None:
    path = tmp_path / "block.json"
    path.write_text(block.text)

    JSON[block.kind.removeprefix("json ")](path, sandbox)

    assert logged_by_us(caplog) == []


def check_connections(path: Path, sandbox: Sandbox) -> None:
    from airflow.secrets.local_filesystem import LocalFilesystemBackend

    backend = LocalFilesystemBackend(connections_file_path=str(path))
    for conn_id in json.loads(path.read_text()):
        assert client_config(backend.get_connection(conn_id)).api_key


def check_extra(path: Path, sandbox: Sandbox) -> None:
    client_config(Connection(conn_id="any", conn_type="faraday", password="key", extra=path.read_text()))


def check_account(path: Path, sandbox: Sandbox) -> None:
    with Sandbox(account=path) as described:
        assert described.datasets()


def check_event(path: Path, sandbox: Sandbox) -> None:
    def types(payload: dict[str, Any]) -> dict[str, type]:
        return {key: type(value) for key, value in payload.items()}

    (state,) = states_of(resource_type_named("datasets"), [sandbox.dataset(CUSTOMERS)])
    assert types(json.loads(path.read_text())) == types(state.build)


def check_lineage(path: Path, sandbox: Sandbox) -> None:
    sandbox.advance(60)
    sensor = DatasetsReadySensor(task_id="wait_for_web_orders", datasets=[WEB_ORDERS])
    context: Any = {"task_reschedule_count": 0}
    sensor.execute(context)
    reported = sensor.get_openlineage_facets_on_complete(None)
    shown = json.loads(path.read_text())

    for dataset in shown["outputs"]:
        built_at = sandbox.dataset(WEB_ORDERS)["last_updated_output_at"]
        dataset["facets"]["version"]["datasetVersion"] = built_at
    for side in ("inputs", "outputs"):
        assert [_short(asdict(dataset)) for dataset in getattr(reported, side)] == shown[side]
    assert (
        _short({name: asdict(facet) for name, facet in reported.job_facets.items()}) == shown["job"]["facets"]
    )


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: _short(field) for name, field in value.items() if not name.startswith("_")}
        return {name: field for name, field in fields.items() if field not in (None, {}, [])}
    return [_short(item) for item in value] if isinstance(value, list) else value


@pytest.mark.once
@blocks("text error")
@pytest.mark.usefixtures("faraday_default")
def test_the_error_on_the_page_is_exact(block: Block, sandbox: Sandbox) -> None:
    sandbox.rotate_key("another")

    with pytest.raises(FaradayAuthenticationError) as caught:
        FaradayHook().list_connection_datasets(WAREHOUSE)

    shown = re.escape(block.text.strip()).replace("…", ".+")
    assert re.fullmatch(shown, str(caught.value))


JSON = {
    "connections": check_connections,
    "extra": check_extra,
    "account": check_account,
    "event": check_event,
    "lineage": check_lineage,
}
