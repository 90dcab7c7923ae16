"""pyproject.toml names what the package imports, and nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# fsspec, PyTorch's exporter and SummaryWriter import three; trackers are imported by name
FOR_OTHERS = {"s3fs", "onnxscript", "tensorboard", "wandb", "mlflow-skinny", "trackio"}
USERS_OWN = {
    "ultralytics",
    "segmentation-models-pytorch",
    "lightning",
}  # frameworks that an adapter finds where a user has them
NOT_HERE = {"tensorrt": "tensorrt", "pynvml": "nvidia-ml-py", "nvidia": "nvidia-dali-cuda130", "triton": "triton"}
WITH_OTHERS = {"markupsafe": "jinja2", "triton": "torch", "nvidia-ml-py": "torch", "onnx-ir": "onnxscript"}


def name_of(requirement):
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def declared():
    extras = [
        line
        for extra, lines in PROJECT["optional-dependencies"].items()
        if extra not in ("test", "docs")
        for line in lines
    ]
    return {name_of(line) for line in PROJECT["dependencies"] + extras} - {"recalib"}


def imported():
    modules = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    found = {}
    for module in modules - set(sys.stdlib_module_names) - {"recalib"}:
        names = [name.lower().replace("_", "-") for name in distributions.get(module, [])]
        own = module.replace("_", "-")
        name = NOT_HERE.get(module) or (own if own in names else names[0])
        found[WITH_OTHERS.get(name, name)] = module
    return found


def test_what_is_imported_is_a_dependency_or_in_an_extra():
    assert set(imported()) - USERS_OWN <= declared()


def test_what_is_a_dependency_is_imported():
    assert declared() - FOR_OTHERS <= set(imported())


def test_constraints_pin_every_dependency_within_its_bound():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.partition("  #")[0].split("==") for line in lines if "==" in line)
    lines = PROJECT["dependencies"] + [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in lines:
        name = name_of(line)
        if name == "recalib" or name.startswith(("tensorrt", "nvidia", "trackio")):  # trackio refuses today's Pillow
            continue
        lowest = re.search(r">=([\d.]+)", line)[1]
        pin = {key.lower().replace("_", "-"): value for key, value in pins.items()}[name]
        assert [int(n) for n in re.findall(r"\d+", pin)] >= [int(n) for n in lowest.split(".")], line
