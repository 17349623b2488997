"""Run programs in new processes that have modules loaded already.

Importing Airflow takes seconds of CPU time in each process, but none in a fork of one that has imported it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The programs' own output goes to stderr, because stdout carries the answers.
SERVER = """
import json, os, sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

def answer(**fields):
    print(json.dumps(fields), file=answers, flush=True)

exec(sys.argv[1], {})
for line in sys.stdin:
    if pid := os.fork():
        if os.waitpid(pid, 0)[1]:
            answer(error="The process was killed.")
        continue
    namespace = {"__name__": "__main__"}
    try:
        exec(json.loads(line), namespace)
        answer(result=namespace.get("result"))
    except BaseException:
        import traceback

        answer(error=traceback.format_exc())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
"""


@contextmanager
def forking(prepare: str, env: Mapping[str, str] | None = None) -> Iterator[Callable[[str], Any]]:
    """Start a Python process that runs each program in a fork of itself.

    :param prepare: statements to run once, before the first fork
    :param env: the environment variables of the process, by default those of this one
    :return: a function that runs a program and returns what it has assigned to ``result``. It raises an
        ``AssertionError`` with the traceback if the program fails
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, prepare],
        env=None if env is None else dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A process group of its own, so that a program that hangs can be killed with it.
        start_new_session=True,
    )

    def run(program: str) -> Any:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(program) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "The process has exited."
        fields = json.loads(answer)
        assert "error" not in fields, fields["error"]
        return fields["result"]

    with process:
        try:
            yield run
        finally:
            os.killpg(process.pid, signal.SIGKILL)
