"""A throw-away Airflow in its own directory: settings, metadata database, connections, processes, REST API.

The scripts and the tests share this module.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests
from cryptography.fernet import Fernet
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from typing import IO

STOP_SECONDS = 10.0
INTERRUPTED = 130
# Below the ephemeral ports of Linux and macOS.
_PORTS = range(20_000, 32_768)
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The user's own settings for Airflow, Python and HTTP clients must not leak in. Without bytecode files,
# Airflow takes three times as long to start.
_REMOVED_VARIABLES = re.compile(r"_?AIRFLOW.*|PYTHON.*|.*_CA_BUNDLE|.*_PROXY", re.IGNORECASE)


class Failed(Exception):
    """Raised if a command fails; the message has the reason."""


def environment(
    home: Path, dags: Path, connections: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, str]:
    """Return the environment variables of an Airflow that lives in ``home`` and shares nothing with others.

    :param home: its ``AIRFLOW_HOME``
    :param dags: its DAGs folder
    :param connections: Airflow connections by id, in Airflow's JSON format
    """
    kept = {name: value for name, value in os.environ.items() if not _REMOVED_VARIABLES.fullmatch(name)}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # On a busy machine, another process may lock the database for longer than the default of 5 seconds.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        **{
            f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(connection)
            for conn_id, connection in (connections or {}).items()
        },
    }


def server_environment(home: Path, dags: Path, port: int | None = None) -> dict[str, str]:
    """Return the environment variables of an Airflow whose UI and API need no login, on this machine only.

    :param home: its ``AIRFLOW_HOME``
    :param dags: its DAGs folder; these DAGs start unpaused
    :param port: the API server's port; a free one by default
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__SECRET_KEY": secrets.token_hex(16),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__TEST_CONNECTION": "Enabled",
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        # The default ports would clash if two of these run on one machine. Nothing calls these servers, since
        # all logs are on one disk.
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        # The default of 5 seconds is too short on a busy machine.
        "WORKERS__EXECUTION_API_TIMEOUT": "120",
        # Airflow may notice only at its next heartbeat that a task has ended. The default is 5 seconds.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    env = environment(home, dags)
    # `airflow standalone` runs `airflow` from the PATH.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return env | {f"AIRFLOW__{name}": value for name, value in settings.items()}


def free_port(preferred: int | None = None) -> int:
    """Return a port that nothing listens on: the preferred one if possible.

    The others are not ephemeral ports, so no other socket takes one before a server starts there.
    """
    candidates = random.sample(_PORTS, len(_PORTS))
    for port in candidates if preferred is None else [preferred, *candidates]:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"All ports from {_PORTS.start} to {_PORTS.stop - 1} are in use.")


def airflow(*arguments: str) -> list[str]:
    """Return the command line that runs ``airflow`` with this Python."""
    return [sys.executable, "-m", "airflow", *arguments]


def run(env: Mapping[str, str], *arguments: str) -> None:
    """Run an Airflow command and wait for it.

    :raises Failed: if it fails; the message has its output
    """
    ran = subprocess.run(
        airflow(*arguments),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ran.returncode != 0:
        raise Failed(f"'airflow {' '.join(arguments)}' exited with status {ran.returncode}:\n{ran.stdout}")


def migrate(env: Mapping[str, str]) -> None:
    """Create the metadata database.

    :raises Failed: if that fails
    """
    run(env, "db", "migrate")


def store_connections(env: Mapping[str, str], connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Store Airflow connections in the metadata database, encrypted, and overwrite existing ones.

    :param connections: Airflow connections by id, in Airflow's JSON format
    :raises Failed: if that fails
    """
    # Airflow imports connections from files only. Other users cannot read this one.
    with tempfile.NamedTemporaryFile("w", prefix="connections-", suffix=".json") as file:
        json.dump(connections, file)
        file.flush()
        run(env, "connections", "import", "--overwrite", file.name)


def start(
    env: Mapping[str, str], *arguments: str, output: int | IO[bytes], script: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start an Airflow command in the background, in a new session, so that Ctrl-C does not reach it.

    :param output: where its output goes
    :param script: a Python script to start instead
    """
    return subprocess.Popen(
        [sys.executable, str(script), *arguments] if script else airflow(*arguments),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to a process from :func:`start` and its descendants; kill those that do not exit."""
    for number in (how, signal.SIGKILL):
        for member in session_members(process):
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while session_members(process) and time.monotonic() < deadline:
            time.sleep(0.1)
    process.wait()


def session_members(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process from :func:`start` and its descendants, as far as they are running."""
    # Tasks have their own process groups and survive a killed parent, but they stay in the session.
    process.poll()
    return [each for each in psutil.process_iter() if _session_id(each) == process.pid and is_alive(each)]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def throw_away_home(prefix: str) -> Iterator[Path]:
    """Create a temporary directory; on exit, end all child processes and remove it.

    SIGTERM and SIGHUP raise ``KeyboardInterrupt``, as Ctrl-C does.
    """
    for number in _INTERRUPTS:
        signal.signal(number, _interrupt)
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield home
    finally:
        _end_children()
        shutil.rmtree(home, ignore_errors=True)


def run_command(name: str, run: Callable[[Path, IO[bytes]], None]) -> int:
    """Run a command with a temporary directory and a log for Airflow, which is kept after a failure.

    :return: the exit status: 0, 1 after :class:`Failed`, or :data:`INTERRUPTED` after Ctrl-C
    """
    with throw_away_home(f"faraday-{name}-") as home:
        log = home / "airflow.log"
        try:
            with log.open("wb") as output:
                run(home, output)
        except KeyboardInterrupt:
            print("\nStopping. Airflow exits and its files are removed.", flush=True)
            return INTERRUPTED
        except Failed as error:
            print(f"\nThe {name} failed: {error}", file=sys.stderr)
            if log.stat().st_size:
                kept = shutil.move(log, tempfile.mkdtemp(prefix=f"faraday-{name}-log-"))
                print(f"Airflow's log is kept in {kept}", file=sys.stderr)
            return 1
    return 0


class Api:
    """A client for the REST API of an Airflow with a :func:`server_environment`.

    :ivar url: the URL of its UI
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.url = env["AIRFLOW__API__BASE_URL"]
        self._session = requests.Session()
        # Ignore the user's proxies and .netrc.
        self._session.trust_env = False
        # Airflow answers 500 if the database is locked.
        retries = Retry(
            6,
            connect=0,
            status_forcelist=[500],
            allowed_methods=None,
            backoff_factor=1,
            raise_on_status=False,
        )
        self._session.mount(self.url, HTTPAdapter(max_retries=retries))

    def get(self, path: str, **query: Any) -> requests.Response:
        """Send a GET request.

        :raises requests.RequestException: if it fails
        """
        response = self._request("GET", path, params=query)
        response.raise_for_status()
        return response

    def is_healthy(self) -> bool:
        """Return whether API server, scheduler, DAG processor and triggerer are all healthy."""
        health = self._health()
        return health is not None and {part["status"] for part in health.values()} == {"healthy"}

    def _health(self) -> dict[str, dict[str, Any]] | None:
        try:
            response = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=10)
            # Errors are JSON, too, but of another form.
            response.raise_for_status()
            return response.json()
        except requests.RequestException:
            return None

    def _request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=30)
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return self._session.request(method, f"{self.url}{path}", timeout=60, **arguments)


def _session_id(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _end_children() -> None:
    # Ask the system: Ctrl-C may come before Popen has returned.
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, STOP_SECONDS)[1]:
        child.kill()
    psutil.wait_procs(children, STOP_SECONDS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second Ctrl-C must not interrupt the cleanup.
    for each in _INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
