"""Exports of every module for ResNet-18 and MobileNetV2: how far each runtime is from PyTorch, in float32.

    python examples/export.py --images DIR --json results/export.json

Each network is exported once for any batch and size, as ONNX and as OpenVINO IR, and four times as ONNX for one batch
and size; every file is run on batches of 1 and 7 at 224x224 and 320x192. Weights are random and moved off the zeros and
ones that networks start with, so that no module is the identity.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from recalib.data.pictures import image_files, read_batch
from recalib.deploy.classifier import Classifier, open_classifier, open_exported_classifier
from recalib.deploy.classifier_file import export_classifier, relative_difference
from recalib.measure.networks import perturb_
from recalib.runs import environment

MODELS = ("resnet18", "torchvision:mobilenet_v2")
MODULES = ("se", "eca", "srm", "ab", "multi_se", "gct")
RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino"}
SHAPES = tuple(product((1, 7), ((224, 224), (320, 192))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with at least seven images")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    files = image_files(given.images)[:7]
    rows = []
    for model, module in product(MODELS, MODULES):
        for row in differences(model, module, files):
            rows.append(row)
            print(json.dumps(row), flush=True)
    worst = max(row["difference"] for row in rows)
    given.json.write_text(json.dumps({"worst": worst, "rows": rows, "environment": environment()}, indent=1) + "\n")
    print(f"{len(rows)} runs, largest relative difference {worst:.1e}")


def differences(model, module, files):
    torch.manual_seed(0)
    classifier = open_classifier(model, attention=module)
    perturb_(classifier.network)
    with tempfile.TemporaryDirectory() as folder:
        for to, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
            path = Path(folder) / f"free{suffix}"
            export_classifier(classifier.network, path, replace(classifier.about, dynamic=True), to=to)
            for batch, size in SHAPES:
                yield measure(classifier, path, module, batch, size, files)
        for batch, size in SHAPES:
            path = Path(folder) / "fixed.onnx"
            export_classifier(
                classifier.network, path, replace(classifier.about, dynamic=False, batch=batch, size=size)
            )
            yield measure(classifier, path, module, batch, size, files)


def measure(classifier: Classifier, path, module, batch, size, files):
    images = read_batch(files[:batch], size, classifier.about.crop, classifier.about.normalization)
    exported = open_exported_classifier(path, size)
    with torch.inference_mode():
        difference = relative_difference(exported.network(images), classifier.network(images))
    return {
        "model": classifier.about.model, "module": module, "runtime": RUNTIME[exported.form],
        "form": path.stem, "batch": batch, "size": list(size), "difference": difference,
    }  # fmt: skip


if __name__ == "__main__":
    main()
