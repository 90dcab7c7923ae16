"""A mistake on the command line is one line that names the value and what would be right."""

from contextlib import suppress

import pytest

from recalib.cli import COMMANDS, main

FIRST = {
    "export": ["resnet18"],
    "detect": ["check", "x"],
    "train": ["cifar-paper"],
    "cost": ["resnet18"],
    "check": ["x"],
    "plan": ["cifar-paper"],
    "sites": ["resnet18"],
    "study": ["cifar-quick"],
    "sweep": ["sweep.yaml"],
    "trim": ["a.safetensors"],
    "yolo": ["train"],
    "convert": ["a.pth", "b.safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_an_option_it_does_not_have(command, capsys):
    assert main([command, *FIRST.get(command, []), "--no-such-option", "3"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'--no-such-option'" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with suppress(SystemExit):  # how most parsers end after it
        assert main([command, "--help"]) == 0
    assert f"recalib {command} " in capsys.readouterr().out.replace("usage:", "")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cost"], "missing MODEL"),
        (["cost", "resnet18", "--batch", "abc"], "--batch takes INT: invalid literal for int() with base 10: 'abc'"),
        (["cost", "resnet18", "--sise", "32"], "unknown option '--sise'; did you mean --size"),
        (["cost", "resnet18", "--convention", "klump"], "unknown --convention 'klump'; did you mean klomp?"),
        (["cost", "resnet18", "resnet34"], "'resnet34' is one argument too many"),
        (["compare", "--batch"], "--batch needs a value"),
        (["train", "cifar-paper", "--lrate", "3"], "unknown option '--lrate'; did you mean --lr"),
        (["evaluate"], "missing --checkpoint"),
        (["evalute"], "unknown command 'evalute'; did you mean evaluate?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_says_what_would_be_right(argv, said, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_without_tyros_hook_its_own_message_ends_the_command(monkeypatch, capsys):
    monkeypatch.setattr("recalib.cli.arguments.mistakes", None)
    with pytest.raises(SystemExit) as ended:
        main(["cost", "resnet18", "--sise", "32"])
    assert ended.value.code == 2
    assert "--sise" in capsys.readouterr().err
