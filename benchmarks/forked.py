"""Run a function in a forked process, as Airflow does with tasks and DAG files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")


def forked(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a forked process, and return its result.

    :param arguments: can be pickled, like the result.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()
