"""`recalib completion`: what the shell offers after a part of a command line."""

import shutil
import subprocess

import pytest

from recalib.cli import COMMANDS, main
from recalib.cli.completion import STEPS, options_of, script

COMPLETED = ("cost", "sites", "bench", "detect check")


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "recalib.bash"
    file.write_text(script("bash", COMPLETED))
    return file


def offered(bash, line):
    words = line.split(" ")
    told = " ".join(f"'{word}'" for word in ["recalib", *words])
    run = f"source {bash}; COMP_WORDS=({told}); COMP_CWORD={len(words)}; _recalib; echo ${{COMPREPLY[*]}}"
    return subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c", ["cost"]),
        ("detect ", list(STEPS["detect"])),
        ("detect check --str", ["--strict"]),
        ("cost resnet50 --at", ["--attention"]),
        ("cost resnet50 --attention ec", ["eca", "eca_ns"]),
        ("cost resnet50 --attention eca s", ["s"]),
        ("sites resnet50 --where st", ["stages"]),
        ("bench --no-re", ["--no-resume", "--no-rehearse"]),
    ],
)
def test_bash_offers(bash, line, words):
    found = offered(bash, line)
    assert set(words) <= set(found) or all(any(name.startswith(word) for name in found) for word in words)
    assert all(name.startswith(line.split(" ")[-1]) for name in found)


def test_every_option_of_the_help_is_known():
    assert {"--size", "--batch", "--attention", "--parts", "--no-parts", "--convention", "--json"} <= set(
        options_of("cost")
    )
    assert options_of("cost")["--convention"] == ("standard", "klomp")


def test_recipes_are_offered_after_train():
    assert "cifar-paper" in options_of("train")["RECIPE"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_valid(shell, tmp_path):
    file = tmp_path / "script"
    file.write_text(script(shell, COMPLETED))
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", file], check=True)


@pytest.mark.slow
def test_every_command_is_completed(capsys):
    assert main(["completion", "bash"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f'"{command} ' in text
