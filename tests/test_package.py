"""The package as it is imported: quick, and under its public names."""

import subprocess
import sys
from types import ModuleType

import pytest

import recalib


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["--version"], 0), ([], 2), (["trian"], 2)])
def test_what_needs_no_network_imports_nothing_large(words, status):
    done = python(
        "import sys; from recalib.cli import main\n"
        f"status = main({words})\n"
        "assert not {'torch', 'numpy', 'tyro', 'rich', 'PIL'} & set(sys.modules), set(sys.modules)\n"
        "sys.exit(status)"
    )
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("name", recalib.__all__)
def test_every_public_name_is_there(name):
    assert getattr(recalib, name) is not None
    assert name in dir(recalib)


def test_functions_stay_functions_when_the_packages_of_their_names_are_imported():
    done = python(
        "import recalib.cost.conventions, recalib.deploy.deploy, recalib\n"
        "from recalib.cost import Cost\n"
        "assert callable(recalib.cost) and callable(recalib.deploy), (recalib.cost, recalib.deploy)"
    )
    assert done.returncode == 0, done.stderr


def test_packages_are_imported_when_they_are_touched():
    done = python("import recalib; print(recalib.attention.ECA.__name__, recalib.surgery.__name__)")
    assert done.stdout == "ECA recalib.surgery\n", done.stderr


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'recalib' has no attribute 'nothing'"):
        _ = recalib.nothing
    assert isinstance(recalib, ModuleType)
