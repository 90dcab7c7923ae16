"""Words: a docstring names what it describes, and a class's name means one thing."""

import ast
from collections import Counter
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


def test_no_two_classes_have_one_name():
    # A command's `Arguments` are its own, and hosts of attention are called as the blocks they host.
    files = [file for file in SOURCE.rglob("*.py") if file.parent.parts[-2:] != ("surgery", "blocks")]
    parsed = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    names = Counter(node.name for tree in parsed for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1 and name != "Arguments"] == []
