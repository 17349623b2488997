"""A throw-away Airflow in a directory of its own: environment, metadata database, connections, processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType
    from typing import IO

STOP_SECONDS = 10.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# What a person has set for an Airflow, a Python or an HTTP client of their own must not change what happens
# here; and without bytecode files Airflow starts three times slower.
_NOT_PASSED_ON = (
    "AIRFLOW",
    "_AIRFLOW",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONWARNINGS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


def environment(
    home: Path, dags: Path, connections: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, str]:
    """Give the environment variables of an Airflow that lives in ``home`` and shares nothing with any other.

    :param home: its ``AIRFLOW_HOME``
    :param dags: its DAGs folder
    :param connections: Airflow connections by id, each as the JSON form of Airflow has it
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_PASSED_ON)}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        **{
            f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(connection)
            for conn_id, connection in (connections or {}).items()
        },
    }


def airflow(*arguments: str) -> list[str]:
    """Give the command line of Airflow's own command in this very Python."""
    return [sys.executable, "-m", "airflow", *arguments]


def migrate(env: Mapping[str, str]) -> None:
    """Create the metadata database.

    :raises subprocess.CalledProcessError: where it fails; ``stdout`` has the log
    """
    _finish(env, "db", "migrate")


def store_connections(env: Mapping[str, str], connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Store Airflow connections in the metadata database, encrypted, in place of those that are there.

    :param connections: by id, each as the JSON form of Airflow has it
    :raises subprocess.CalledProcessError: where that fails; ``stdout`` has the log
    """
    # Airflow reads them from a file only; this one is nobody else's, and gone in seconds.
    with tempfile.NamedTemporaryFile("w", prefix="connections-", suffix=".json") as file:
        json.dump(connections, file)
        file.flush()
        _finish(env, "connections", "import", "--overwrite", file.name)


def start(env: Mapping[str, str], *arguments: str, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start an Airflow command in the background, in a session of its own: Ctrl-C does not reach it.

    :param output: where everything goes that it prints
    """
    return subprocess.Popen(
        airflow(*arguments),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to what :func:`start` gave and to all that it has started; what stays is killed."""
    for number in (how, signal.SIGKILL):
        for member in _alive(process):
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while _alive(process) and time.monotonic() < deadline:
            time.sleep(0.1)
    process.wait()


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended may be listed until somebody takes its exit status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def throw_away_home(prefix: str) -> Iterator[Path]:
    """Give a directory; whatever happens, its processes are ended and it is removed in the end.

    A closed terminal or a supervisor ends this process as Ctrl-C does: with a ``KeyboardInterrupt``.
    """
    for number in _INTERRUPTS:
        signal.signal(number, _interrupt)
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield home
    finally:
        _end_children()
        shutil.rmtree(home, ignore_errors=True)


def _finish(env: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(
        airflow(*arguments),
        env=dict(env),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _alive(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    # Found by session: Airflow's tasks have process groups of their own, and outlive a parent that is killed.
    process.poll()
    return [each for each in psutil.process_iter() if _session(each) == process.pid and is_alive(each)]


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _end_children() -> None:
    # Asked of the system and not kept in a list: Ctrl-C can come before Popen has returned.
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, STOP_SECONDS)[1]:
        child.kill()
    psutil.wait_procs(children, STOP_SECONDS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second Ctrl-C must not break off the cleaning up that this one begins.
    for each in _INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def keep_log(log: Path, prefix: str) -> None:
    """Move a log, where there is one, out of a directory that is about to be removed, and say where to."""
    if log.exists():
        kept = Path(tempfile.mkdtemp(prefix=prefix)) / log.name
        shutil.move(log, kept)
        print(f"Airflow's log is kept in {kept}", file=sys.stderr)
