"""A file of a command that measures or chooses holds arguments, one call into a room, and printing."""

import ast
from pathlib import Path

import pytest

import recalib.cli

COMMANDS = ("compare", "cost", "detector_latency", "latency", "measuring", "modules", "recommend")
COMPUTES = {"torch", "torchvision", "timm", "numpy", "scipy", "onnx", "onnxruntime", "openvino"}
ROOMS_BELOW = {"ops", "surgery", "models", "deploy", "data", "detection"}  # a room on top of them is called instead


def found(command):
    """What a file of `cli` imports, as lists of names, and its classes."""
    tree = ast.parse((Path(recalib.cli.__file__).parent / f"{command}.py").read_text(encoding="utf-8"))
    imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [name.split(".") for name in imports], [
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_computes_nothing_of_its_own(command):
    imports, _ = found(command)
    assert not COMPUTES & {name[0] for name in imports}
    assert not ROOMS_BELOW & {name[1] for name in imports if name[0] == "recalib" and len(name) > 1}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_describes_nothing_but_its_arguments(command):
    _, classes = found(command)
    assert set(classes) <= {"Arguments"}
