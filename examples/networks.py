"""Networks of five libraries, as people bring them: sites, identity, keys, deployment, export; one row each.

    python examples/networks.py [NAME ...]

Writes results/networks.json and docs/networks.md. Each row is a process of its own. Rows that the file has already are
kept, so a run that was stopped goes on; those that failed, and those that are named, are tried again.
"""

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

import recalib
from recalib.deploy.deploy import tree_difference
from recalib.runs.atomic import write_text
from recalib.version import code_digest

TARGETS = ("eager", "compile", "onnxruntime", "openvino")
IDENTITY, DEPLOYED = 1e-5, 1e-4
TIMM = """
resnet18 resnet50 resnet50d resnext50_32x4d wide_resnet50_2 seresnet18 resnetv2_50 resnetrs50 res2net50_26w_4s
skresnet18 mobilenetv2_100 mobilenetv3_large_100 mobilenetv4_conv_small mnasnet_100 efficientnet_b0
tf_efficientnet_b0 tf_efficientnetv2_s regnetx_004 regnety_004 regnetv_040 convnext_atto convnextv2_atto
ghostnet_100 ghostnetv2_100 rexnet_100 fastvit_t8 edgenext_xx_small legacy_xception xception41 inception_v3
inception_v4 inception_resnet_v2 densenet121 ese_vovnet19b_dw repvgg_a0 mobileone_s0 selecsls42b nf_resnet50
dla34 hrnet_w18_small cspresnet50 cspdarknet53 darknet53 gernet_s hardcorenas_a dpn68 vgg11_bn legacy_senet154
tinynet_a lcnet_050 repghostnet_050 starnet_s1 poolformer_s12 mobilevit_s
"""
TORCHVISION = """
resnet18 resnet50 mobilenet_v2 mobilenet_v3_small efficientnet_b0 regnet_x_400mf mnasnet0_5 convnext_tiny
densenet121 googlenet inception_v3 shufflenet_v2_x0_5 squeezenet1_1 vgg11 alexnet deeplabv3_mobilenet_v3_large
lraspp_mobilenet_v3_large fcn_resnet50 quantized_resnet18 quantized_mobilenet_v2
ssdlite320_mobilenet_v3_large
"""
SMP = """
Unet UnetPlusPlus Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus MAnet
"""
YOLO = """
yolov5n yolov8n yolov8n-seg yolov9t yolov10n yolo11n yolo11n-cls yolo12n
"""
MONAI = """
UNet2d UNet3d ResNet1d ResNet3d DenseNet2d SegResNet3d BasicUNet2d SENet
"""
NETWORKS = [
    *TIMM.split(), *(f"torchvision:{name}" for name in TORCHVISION.split()), *(f"smp:{name}" for name in SMP.split()),
    *(f"ultralytics:{name}" for name in YOLO.split()), *(f"monai:{name}" for name in MONAI.split()),
    "timm:resnet18, features_only",
]  # fmt: skip


def make(name):
    """The network, and the shape of what is run through it."""
    library, _, rest = name.partition(":")
    if library == "smp":
        import segmentation_models_pytorch as smp

        side = 128 if rest == "PAN" else 64
        return getattr(smp, rest)("resnet18", encoder_weights=None, classes=3), (1, 3, side, side)
    if library == "ultralytics":
        from ultralytics import YOLO

        return YOLO(f"{rest}.yaml").model, (1, 3, 64, 64)
    if library == "monai":
        return make_monai(rest)
    if name.endswith("features_only"):
        import timm

        return timm.create_model("resnet18", features_only=True), (1, 3, 64, 64)
    if rest.startswith("quantized_"):
        from torchvision.models import quantization

        build = getattr(quantization, rest.removeprefix("quantized_"))
        return build(weights=None, quantize=False), (1, 3, 64, 64)
    side = 299 if "inception" in name else 96
    return recalib.models.create_model(name), (1, 3, side, side)


def make_monai(name):
    from monai.networks import nets

    narrow = {"channels": (8, 16, 32), "strides": (2, 2)}
    flat = {"in_channels": 1, "out_channels": 2}
    made = {
        "UNet2d": lambda: (nets.UNet(spatial_dims=2, num_res_units=2, **flat, **narrow), (1, 1, 64, 64)),
        "UNet3d": lambda: (nets.UNet(spatial_dims=3, num_res_units=2, **flat, **narrow), (1, 1, 32, 32, 32)),
        "ResNet1d": lambda: (nets.resnet18(spatial_dims=1, n_input_channels=1), (1, 1, 256)),
        "ResNet3d": lambda: (nets.resnet10(spatial_dims=3, n_input_channels=1), (1, 1, 32, 32, 32)),
        "DenseNet2d": lambda: (nets.DenseNet121(spatial_dims=2, **flat), (1, 1, 64, 64)),
        "SegResNet3d": lambda: (nets.SegResNet(spatial_dims=3, init_filters=8, **flat), (1, 1, 32, 32, 32)),
        "BasicUNet2d": lambda: (nets.BasicUNet(spatial_dims=2, **flat), (1, 1, 64, 64)),
        "SENet": lambda: (nets.SEResNet50(spatial_dims=2, in_channels=1), (1, 1, 64, 64)),
    }
    return made[name]()


def lively(model):
    """No norm at its initial value, so that a mistake shows."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
        if isinstance(module, recalib.attention.Blend):
            nn.init.normal_(module.weight, std=0.1, generator=generator)
    return model.eval()


class Spent:
    """Seconds of the processor and growth of memory inside of a ``with``, so that other processes do not count."""

    def __enter__(self):
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
        self.start, self.before = time.process_time(), _memory("VmRSS")
        return self

    def __exit__(self, *_):
        self.s, self.mb = time.process_time() - self.start, _memory("VmHWM") - self.before


def _memory(what):
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), 0.0)


@torch.no_grad()
def row(name, attention="eca", targets=TARGETS, export=True):
    """What became of one network."""
    torch.manual_seed(0)
    model, shape = make(name)
    lively(model)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected, keys = model(x), set(model.state_dict())
    if not all(tensor.numel() for tensor in tree_flatten(expected)[0] if isinstance(tensor, torch.Tensor)):
        raise ValueError("gives nothing that could be compared, as a detector that finds no boxes")
    found = {"network": name, "shape": list(shape), "parameters": sum(p.numel() for p in model.parameters())}
    found["code"] = code_digest()
    try:
        with Spent() as spent:
            insertion = recalib.insert_(model, attention, identity=True)
    except recalib.RecalibError as error:
        return {**found, "refused": str(error)}
    sites = insertion.sites
    found |= {
        "insert_s": spent.s, "insert_mb": spent.mb, "sites": len(sites), "kind": sites[0].kind, "first": sites[0].name,
        "keys_kept": keys < set(model.state_dict()),
    }  # fmt: skip
    found["identity_error"] = tree_difference(model(x), expected)
    lively(model)
    expected = model(x)
    for target in targets:
        with warnings.catch_warnings(record=True) as caught, Spent() as spent:
            warnings.simplefilter("always")
            deployed = recalib.deploy(model, x, target=target)
        found[target] = {
            "error": tree_difference(deployed(x), expected), "s": spent.s, "mb": spent.mb,
            "parts": len(deployed.about.parts), "forms": len(deployed.about.forms),
            "left_as_it_is": any("left as it is" in str(warning.message) for warning in caught),
        }  # fmt: skip
        del deployed
    if export:
        found["exported"] = exported(model, shape)
    return found


def exported(model, shape):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return {"error": recalib.export(model, shape, Path(folder) / "net.onnx").difference}
        except recalib.RecalibError as error:
            return {"no": str(error)}


def failures(found):
    """What is wrong with a row; nothing of one that was refused with a reason."""
    if "failed" in found:
        return [found["failed"]]
    if "refused" in found:
        return []
    wrong = [] if found["keys_kept"] else ["keys"]
    wrong += [] if found["identity_error"] <= IDENTITY else ["identity"]
    return wrong + [target for target in TARGETS if target in found and not found[target]["error"] <= DEPLOYED]


def fresh_row(name, limit_s, **options):
    """The row of a network, made in a process of its own: one that is killed or takes too long fails alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recalib.deploy", "timm", "torchvision"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_row, args=(theirs, name, options), daemon=True)
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(limit_s) else {"failed": f"not done in {limit_s:g} s"}
    except EOFError:
        process.join()
        found = {"failed": f"its process ended with {process.exitcode}"}
    process.kill()
    process.join()
    return {"network": name, "code": code_digest(), **found}


def _send_row(pipe, name, options):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        pipe.send(row(name, **options))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        pipe.send({"failed": f"{type(error).__name__}: {reason}"})


TEXT = """# Networks

    python examples/networks.py

writes this page and `results/networks.json`: networks as people bring them, each in a process of its own, with ECA
inserted as the identity (`recalib.insert_(model, "eca", identity=True)`), on random weights with lively norms. No
`where=` is given: sites are found in the network.

* **identity**: the largest difference of any output after insertion, relative to the largest value of that output.
  Passes up to 1e-5. Every key that the network had is kept, and the new ones are attention's.
* **eager, compile, onnxruntime, openvino**: the same after `recalib.deploy` for that target, norms and gates moved away
  from their start, the form of the target run in PyTorch. Passes up to 1e-4. "as it is": deployment found that its own
  rewriting would differ, and left the network plain.
* **ONNX**: `recalib.export` to ONNX, run in ONNX Runtime, against PyTorch; or why it cannot be exported.
* **s, MB**: seconds of one core and growth of memory, of insertion and of deployment for eager mode.

"""


def page(rows):
    """The document."""
    refused, wrong = [r for r in rows if "refused" in r], [r for r in rows if failures(r)]
    passed = len(rows) - len(refused) - len(wrong)
    told = f"{len(rows)} networks: {passed} pass, {len(refused)} are refused with a reason, {len(wrong)} fail."
    missing = [name for name in NETWORKS if name not in {found["network"] for found in rows}]
    if missing:
        told += f" Not run yet: {', '.join(missing)}."
    heads = ("network", "sites", "kind", "identity", *TARGETS, "ONNX", "insert s", "MB", "deploy s", "MB")
    lines = [*TEXT.splitlines(), told, "", _line(heads), "|---" * len(heads) + "|"]
    for found in rows:
        if "sites" in found:
            lines.append(_line(_cells(found)))
    lines += _reasons("Refused", [(r["network"], r["refused"]) for r in refused])
    lines += _reasons("Not exported", [(r["network"], r["exported"]["no"]) for r in rows if _refuses_export(r)])
    lines += _reasons("Failed", [(r["network"], ", ".join(failures(r))) for r in wrong])
    return "\n".join(lines) + "\n"


def _cells(found):
    errors = [_error(found[target]) if target in found else "-" for target in TARGETS]
    written = found.get("exported", {})
    onnx = "no" if "no" in written else f"{written['error']:.0e}" if written else "-"
    spent = (found["insert_s"], found["insert_mb"], found["eager"]["s"], found["eager"]["mb"])
    return (
        found["network"], found["sites"], found["kind"], f"{found['identity_error']:.0e}", *errors, onnx,
        *(f"{value:.{digits}f}" for value, digits in zip(spent, (1, 0, 1, 0), strict=True)),
    )  # fmt: skip


def _error(deployed):
    return f"{deployed['error']:.0e}" + " (as it is)" * deployed["left_as_it_is"]


def _refuses_export(found):
    return "no" in found.get("exported", {})


def _line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def _reasons(title, pairs):
    if not pairs:
        return []
    return ["", f"## {title}", "", *(f"* {name}: {reason}" for name, reason in pairs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks; by default all that have not passed")
    parser.add_argument("--json", type=Path, default=Path("results/networks.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/networks.md"))
    parser.add_argument("--limit", type=float, default=1800, help="seconds a network may take")
    args = parser.parse_args()
    known = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    rows = {found["network"]: found for found in known}
    for name in args.names or [name for name in NETWORKS if name not in rows or failures(rows[name])]:
        rows[name] = fresh_row(name, args.limit)
        print(name, failures(rows[name]) or "ok", rows[name].get("refused", ""), flush=True)
        write(args, [rows[known] for known in dict.fromkeys([*NETWORKS, *rows]) if known in rows])
    write(args, list(rows.values()))


def write(args, rows):
    about = {"machine": platform.machine(), "torch": torch.__version__, "recalib": recalib.__version__}
    results = {"command": "python examples/networks.py", **about, "rows": rows}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.json, json.dumps(results, indent=1) + "\n")
    write_text(args.docs, page(rows))


if __name__ == "__main__":
    main()
