"""``recalib completion``: commands, options and names completed by the shell."""

import importlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from recalib.cli import COMMANDS, detect, segment
from recalib.cli.arguments import parse

STEPS = {"detect": tuple(detect.STEPS), "segment": tuple(segment.STEPS)}
Options = Mapping[str, tuple[str, ...]]  # what each option of a command takes; nothing for what cannot be listed
RECIPE = "RECIPE"  # what stands in the place of an option for a recipe's name


@dataclass(frozen=True)
class Arguments:
    """Print a script that completes commands, options and names of modules, runtimes and recipes.

    Examples:
      recalib completion bash > ~/.local/share/bash-completion/completions/recalib
      recalib completion zsh >> ~/.zshrc
      recalib completion fish > ~/.config/fish/completions/recalib.fish
    """

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="SHELL")]
    """bash, zsh or fish"""


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib completion")
    commands = [f"{name} {step}" for name in COMMANDS for step in STEPS.get(name, ("",))]
    print(script(given.shell, map(str.strip, commands)), end="")
    return 0


def script(shell: str, commands: Iterable[str]) -> str:
    """The script for a shell.

    Args:
        shell: bash, zsh or fish.
        commands: such as ``"cost"`` and ``"detect train"``.
    """
    known = {command: options_of(command) for command in commands}
    return _fish(known) if shell == "fish" else _bash(known, zsh=shell == "zsh")


def options_of(command: str) -> dict[str, tuple[str, ...]]:
    """Options of a command, read from its help, and the words that each takes.

    Args:
        command: such as ``"detect train"``.
    """
    name, *step = command.split()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "200"
    try:
        with redirect_stdout(StringIO()) as text, suppress(SystemExit):
            importlib.import_module(f"recalib.cli.{name}").main([*step, "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    names = _names(command)
    found: dict[str, tuple[str, ...]] = {}
    for line in text.getvalue().splitlines():
        head = re.match(r"[│ ] +(-[^│]*)", line) or re.match(r"│ (-[^│]*)", line)
        if head is None:
            continue
        flags = re.findall(r"--[a-z][\w-]*", re.split(r"  +", head[1])[0])
        choices = re.search(r"{([\w,.-]+)}", re.split(r"  +", head[1])[0])
        for flag in flags:
            found[flag] = names.get(flag) or (tuple(choices[1].split(",")) if choices else ())
    return found | {key: words for key, words in names.items() if key == RECIPE}


def _names(command: str) -> dict[str, tuple[str, ...]]:
    from recalib import attention_names
    from recalib.runtimes import RUNTIMES

    names: dict[str, tuple[str, ...]] = {"--attention": tuple(attention_names()), "--runtime": tuple(RUNTIMES)}
    match command:
        case "train" | "finetune" | "plan" | "study":
            from recalib.classification import RECIPES

            names[RECIPE] = tuple(RECIPES)
        case "detect train":
            from recalib.detection.recipes import RECIPES as DETECTION

            names[RECIPE] = tuple(DETECTION)
        case "segment train":
            from recalib.segmentation.recipes import RECIPES as SEGMENTATION

            names[RECIPE] = tuple(SEGMENTATION)
        case "completion":
            names[RECIPE] = ("bash", "zsh", "fish")
    return names


def _bash(known: Mapping[str, Options], *, zsh: bool) -> str:
    firsts = " ".join(dict.fromkeys(command.split()[0] for command in known))
    cases = []
    for command, options in known.items():
        words = " ".join([*options.get(RECIPE, ()), *(flag for flag in options if flag != RECIPE)])
        for flag, values in options.items():
            if values and flag != RECIPE:
                cases.append(f'    "{command} {flag}") words="{" ".join(values)}" ;;')
        cases.append(f'    "{command} "*) words="{words}" ;;')
    steps = [f'    {name}) words="{" ".join(steps)}" ;;' for name, steps in STEPS.items()]
    return "\n".join(
        [
            *(["autoload -U +X bashcompinit && bashcompinit"] * zsh),
            "_recalib() {",
            "  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} option= words= first=2 i",
            f'  if (( COMP_CWORD == 1 )); then COMPREPLY=($(compgen -W "{firsts}" -- "$current")); return; fi',
            '  case "$command" in',
            f"    {'|'.join(STEPS)}) first=3 ;;",
            "  esac",
            "  if (( COMP_CWORD < first )); then",
            '    case "$command" in',
            *(f"  {line}" for line in steps),
            "    esac",
            '    COMPREPLY=($(compgen -W "$words" -- "$current")); return',
            "  fi",
            '  (( first == 3 )) && command="$command ${COMP_WORDS[2]}"',
            "  for (( i = COMP_CWORD - 1; i >= first; i-- )); do",
            '    case "${COMP_WORDS[i]}" in --*) option=${COMP_WORDS[i]}; break ;; esac',
            "  done",
            '  case "$current" in -*) option= ;; esac',
            '  case "$command $option" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -F _recalib recalib",
            "",
        ]
    )


def _fish(known: Mapping[str, Options]) -> str:
    lines = []
    for name in dict.fromkeys(command.split()[0] for command in known):
        about = f" -d {shlex.quote(COMMANDS[name])}"
        lines.append(f"complete -c recalib -n __fish_use_subcommand -f -a {name}{about}")
    for name, steps in STEPS.items():
        unseen = f"__fish_seen_subcommand_from {name}; and not __fish_seen_subcommand_from {' '.join(steps)}"
        lines.append(f"complete -c recalib -n {shlex.quote(unseen)} -f -a {shlex.quote(' '.join(steps))}")
    for command, options in known.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.split())
        for flag, values in options.items():
            words = f" -a {shlex.quote(' '.join(values))}" if values else ""
            option = "" if flag == RECIPE else f" -l {flag.removeprefix('--')}" + " -x" * bool(values)
            lines.append(f"complete -c recalib -n {shlex.quote(seen)}{option}{words}")
    return "\n".join([*lines, ""])
