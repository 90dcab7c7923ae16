"""A mistake on the command line is one line that names the value and what would be right."""

from contextlib import suppress

import pytest

from recalib.classification import RECIPES, ClassificationJob
from recalib.cli import COMMANDS, main
from recalib.cli.spelling import modern
from recalib.cli.training import modules_in, recipe_in

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
    "completion": ["bash"],
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
        (["evaluate"], "missing --weights"),
        (["train", "--data", "x", "--resume", "cifar-papr"], "unknown recipe 'cifar-papr'; did you mean cifar-paper"),
        (["cost", "resnet18", "--size", "12y3"], "--size takes SIDE|HxW: size '12y3': pixels such as 224"),
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


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_types_as_a_reader_would(command, capsys):
    with suppress(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "{None}" not in text
    assert "default: None" not in text
    assert "[STR" not in text


@pytest.mark.parametrize(
    ("command", "typed", "today"),
    [
        ("compare", ["resnet18", "--modules", "eca", "--runtimes", "eager"],
         ["resnet18", "--attention", "eca", "--runtime", "eager"]),
        ("latency", ["resnet18", "--sizes", "224", "64x96", "--batches", "1"],
         ["resnet18", "--size", "224", "64x96", "--batch", "1"]),
        ("cost", ["resnet18", "--size", "800", "1280", "--modules"], ["resnet18", "--size", "800x1280", "--parts"]),
        ("export", ["resnet18", "--size", "64", "96"], ["resnet18", "--size", "64x96"]),
        ("recommend", ["resnet", "--resolution=320"], ["resnet", "--size=320"]),
        ("evaluate", ["--checkpoint", "a.pth", "--image_size", "224"], ["--weights", "a.pth", "--size", "224"]),
        ("train", ["cifar-paper", "--accelerator", "cpu"], ["cifar-paper", "--device", "cpu"]),
        ("sweep", ["s.yaml", "--target", "compile"], ["s.yaml", "--runtime", "compile"]),
        ("report", ["x", "--network", "resnet18"], ["x", "--model", "resnet18"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_older_spellings_are_taken_and_named(command, typed, today, capsys):
    assert modern(typed, command) == today
    assert "is now --" in capsys.readouterr().err


def test_todays_spellings_are_left_alone(capsys):
    words = ["resnet18", "--size", "224", "320x192", "--attention", "eca", "--batch", "1", "8"]
    assert modern(words, "latency") == words
    assert capsys.readouterr().err == ""


def test_the_model_may_be_named_by_its_option():
    assert modern(["--batch", "8", "--model", "resnet18", "--parts"], "cost") == ["resnet18", "--batch", "8", "--parts"]


@pytest.mark.parametrize("words", [["cifar-paper"], ["--resume", "cifar-paper", "--data", "x"],
                                   ["--data", "x", "--attention", "none", "eca", "cifar-paper"]])  # fmt: skip
def test_the_recipe_stands_before_or_after_options(words):
    modules, rest = modules_in(words, RECIPES)
    name, rest = recipe_in(rest, ClassificationJob, RECIPES)
    assert name == "cifar-paper"
    assert name not in rest
    assert modules == (["none", "eca"] if "eca" in words else [])


def test_the_value_of_an_option_is_no_recipe():
    assert recipe_in(["--name", "cifar-paper"], ClassificationJob, RECIPES) == (None, ["--name", "cifar-paper"])
