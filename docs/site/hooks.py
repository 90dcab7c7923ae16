"""Links of the documents that leave docs/: to the repository where its address is known, else plain paths."""

import re
from typing import Any


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """``[text](../path)`` as a link into the repository."""
    base = (config.repo_url or "").rstrip("/")

    def link(found: re.Match[str]) -> str:
        text, path = found.groups()
        return f"[{text}]({base}/blob/main/{path})" if base else f"{text} (`{path}`)"

    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", link, markdown)
