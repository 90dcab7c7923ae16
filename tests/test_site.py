"""The site builds strictly, its examples run, and its notebooks too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
HERE = os.environ | {"PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}


@pytest.mark.slow
def test_the_site_builds_and_every_example_runs(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    gallery = (tmp_path / "gallery" / "index.html").read_text()
    assert "Traceback" not in gallery
    assert gallery.count("<svg font") >= 10
    assert "insert_" in (tmp_path / "api" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(file, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()


def test_every_document_is_on_the_site():
    listed = (ROOT / "mkdocs.yml").read_text()
    missing = [file.name for file in (ROOT / "docs").glob("*.md") if f": {file.name}\n" not in listed]
    assert missing == []
    assert len(NOTEBOOKS) == 2
