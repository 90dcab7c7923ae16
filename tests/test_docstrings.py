"""Docstrings name what they describe: a noun or an imperative first, never a question."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def openings():
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                yield f"{file.relative_to(SOURCE)}:{getattr(node, 'lineno', 1)}", text.split(" ")[0]


def test_no_docstring_opens_as_a_question():
    assert [where for where, word in openings() if word in ("What", "Whether", "How", "Which", "Why")] == []
