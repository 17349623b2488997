"""An account of two datasets for watchers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.accounts import Account
from support.graphs import node
from support.ids import CUSTOMERS, ORDERS


@pytest.fixture
def account(serve: Callable[[Account], Account]) -> Account:
    return serve(Account(waited="datasets"))


@pytest.fixture
def build(account: Account) -> Callable[..., None]:
    """Return a function that builds a dataset of the account on a day of January, or changes its fields."""
    names = {CUSTOMERS: "customers", ORDERS: "orders"}

    def build(id_: str, day: int, **fields: Any) -> None:
        built = {"last_updated_output_at": f"2026-01-{day:02}T00:00:00Z", **fields}
        others = [each for each in account.resources if each["id"] != id_]
        account.resources = [*others, node(id_, "datasets", names[id_], row_count=1000, **built)]

    for id_ in names:
        build(id_, 1)
    return build
