"""A Griffe extension that turns the Sphinx roles of docstrings into links of the site."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


class Roles(Extension):
    """Replace ``:class:`~package.Class` `` by a link if the site has the class, and by code if not."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            text = ROLE.sub(_link, obj.docstring.value)
            # In reStructuredText, `::` starts a code block. Markdown needs only the indentation.
            text = re.sub(r"^::$", "", text, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _link(match: re.Match[str]) -> str:
    short, path = match.groups()
    shown = path.rpartition(".")[2] if short else path
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
