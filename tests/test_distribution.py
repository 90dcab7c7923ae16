"""What is published: a wheel with its templates, an sdist with its results, a README whose links lead somewhere."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEPT = ("src", "tests", "docs", "examples", "results/README.md", ".ci", "README.md", "pyproject.toml", "mkdocs.yml",
        "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "constraints.txt")  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources, whose README may be rewritten."""
    folder = tmp_path_factory.mktemp("tree")
    for name in KEPT:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)
    return folder


def test_links_and_pictures_of_the_readme_work_on_an_index_page(tree):
    subprocess.run([sys.executable, tree / ".ci" / "readme", "https://example.org/recalib", "v1.0"], check=True)
    links = re.findall(r"\]\(([^)]*)\)", (tree / "README.md").read_text())
    assert all(link.startswith(("https://", "#")) for link in links)
    assert "https://example.org/recalib/raw/v1.0/docs/report.png" in links
    relative = [link.partition("v1.0/")[2] for link in links if link.startswith("https://example.org")]
    assert [path for path in relative if path != "results" and not (ROOT / path.partition("#")[0]).exists()] == []


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_need(tree, tmp_path):
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, tree], check=True, capture_output=True
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src" / "recalib").rglob("*.*")
               if "__pycache__" not in file.parts}  # fmt: skip
    assert sources <= packed  # templates, style sheets and scripts, too
    (metadata,) = (name for name in packed if name.endswith("/METADATA"))
    assert "Provides-Extra: docs" in zipfile.ZipFile(wheel).read(metadata).decode()
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"results/README.md", "README.md", "CITATION.cff", "mkdocs.yml", "docs/index.md"} <= names
