"""Sentences as HTML that several tabs say."""

from __future__ import annotations

import html


def marked(sentence: str) -> str:
    """A sentence with its `code` as code."""
    parts = html.escape(sentence).split("`")
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))


def absent_html(what: str, trouble: str | None) -> str:
    """What stands above a tab whose model cannot be used; nothing when it can."""
    if trouble is None:
        return ""
    return f'<div class="wb-empty"><h3>{html.escape(what)}</h3><p>{marked(trouble)}</p></div>'
