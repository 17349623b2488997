"""Run programs in new processes that have modules loaded already.

Importing Airflow takes seconds of CPU time in each process, but none in a fork of one that has imported it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# All output goes to stderr, because stdout carries the answers. A program ends its process as a script does.
SERVER = """
import gc, json, os, sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
exec(sys.argv[1], {})
# Without this, each fork spends seconds of CPU time on these objects before it ends.
gc.freeze()

def answer(**fields):
    print(json.dumps(fields), file=answers, flush=True)

for line in sys.stdin:
    if pid := os.fork():
        answer(exit_status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    else:
        namespace = {"__name__": "__main__"}
        exec(json.loads(line), namespace)
        answer(result=namespace.get("result"))
        break
"""

# Load what `airflow dags test` needs. Older versions of Airflow do not have all of it.
LOAD_AIRFLOW = """
import asyncio
from contextlib import suppress

import httpx
from airflow.cli.commands import dag_command
from sqlalchemy.orm import configure_mappers

async def get(app):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        await client.get("/health")

configure_mappers()
with suppress(ImportError):
    from airflow.sdk.execution_time import supervisor, task_runner

    server = supervisor.in_process_api_server()
    # The first request completes the application, which takes seconds.
    asyncio.run(get(server.app))
    # Before 3.3, each task creates an application of its own.
    supervisor.in_process_api_server = lambda: server
"""
RUN_AIRFLOW = """
import os, sys
from airflow.__main__ import main

os.environ.update({env!r})
sys.argv = ["airflow", *{arguments!r}]
main()
"""


@dataclass
class Ran:
    """How a program ended.

    :param exit_status: that of its process
    :param output: what it printed, on stdout or stderr
    :param result: what it assigned to ``result``
    """

    exit_status: int
    output: str
    result: Any = None


@contextmanager
def forking(prepare: str, env: Mapping[str, str] | None = None) -> Iterator[Callable[[str], Ran]]:
    """Start a Python process that runs each program in a fork of itself.

    :param prepare: statements to run once, before the first fork
    :param env: the environment variables of the process, by default those of this one
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, prepare],
            env=None if env is None else dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )

        def run(program: str) -> Ran:
            output.seek(0)
            output.truncate()
            print(json.dumps(program), file=process.stdin, flush=True)
            fields: dict[str, Any] = {}
            for line in process.stdout or ():
                fields |= json.loads(line)
                if "exit_status" in fields:
                    break
            output.seek(0)
            printed = output.read().decode()
            assert fields, f"The process has exited: {printed}"
            return Ran(output=printed, **fields)

        with process:
            try:
                yield run
            finally:
                # A program that hangs must not survive the test.
                os.killpg(process.pid, signal.SIGKILL)
