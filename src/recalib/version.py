"""The version of the package, and of the code that makes and runs networks."""

import ast
import functools
import hashlib
from pathlib import Path

__version__ = "0.1.0"

ROOMS = ("attention", "ops", "surgery", "models", "deploy", "runtimes")  # whose code decides what a latency is of


@functools.cache
def code_digest() -> str:
    """The version of the code that makes, deploys and runs a network, such as ``0.1.0+3f9a1c20``.

    Two installations whose `ROOMS` hold the same statements have the same one; comments and docstrings are none. What
    was measured by different ones is not the same thing measured twice.
    """
    here, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(file for room in ROOMS for file in (here / room).rglob("*.py")):
        digest.update(file.relative_to(here).as_posix().encode())
        digest.update(ast.dump(_without_docstrings(ast.parse(file.read_bytes()))).encode())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree
