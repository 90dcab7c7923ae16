"""Networks of five libraries, as people bring them: sites, identity, keys, deployment, export; one row each.

    python examples/networks.py --json results/networks.json --docs docs/networks.md [NAME ...]

Rows that the file has already are kept, so a run that was stopped goes on.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn

import recalib
from recalib.deploy.deploy import tree_difference

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
fasterrcnn_mobilenet_v3_large_320_fpn retinanet_resnet50_fpn ssdlite320_mobilenet_v3_large
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

        return getattr(smp, rest)("resnet18", encoder_weights=None, classes=3), (1, 3, 64, 64)
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


@torch.no_grad()
def row(name, attention="eca", targets=TARGETS, export=True):
    """What became of one network."""
    torch.manual_seed(0)
    model, shape = make(name)
    lively(model)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected, keys = model(x), set(model.state_dict())
    found = {"network": name, "shape": list(shape), "parameters": sum(p.numel() for p in model.parameters())}
    start = time.perf_counter()
    try:
        insertion = recalib.insert_(model, attention, identity=True)
    except recalib.RecalibError as error:
        return {**found, "refused": str(error)}
    found["insert_s"] = time.perf_counter() - start
    sites = insertion.sites
    found |= {
        "sites": len(sites),
        "kind": sites[0].kind,
        "first": sites[0].name,
        "keys_kept": keys < set(model.state_dict()),
    }
    found["identity_error"] = tree_difference(model(x), expected)
    lively(model)
    for target in targets:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            deployed = recalib.deploy(model, x, target=target)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found[target] = {
            "error": tree_difference(deployed(x), model(x)), "s": time.perf_counter() - start,
            "peak_mb": (after - before) / 1024, "parts": len(deployed.about.parts),
            "left_as_it_is": any("left as it is" in str(warning.message) for warning in caught),
        }  # fmt: skip
    if export:
        found["exported"] = exported(model, shape)
    return found


def exported(model, shape):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f"{recalib.export(model, shape, Path(folder) / 'net.onnx').difference:.1e}"
        except Exception as error:
            return f"no: {str(error).splitlines()[0][:120]}"


def failures(found):
    """What is wrong with a row; nothing of one that was refused with a reason."""
    if "failed" in found:
        return [found["failed"]]
    if "refused" in found:
        return []
    wrong = [] if found["keys_kept"] else ["keys"]
    wrong += [] if found["identity_error"] <= IDENTITY else ["identity"]
    return wrong + [target for target in TARGETS if target in found and not found[target]["error"] <= DEPLOYED]


def page(rows):
    refused, wrong = sum("refused" in found for found in rows), sum(bool(failures(found)) for found in rows)
    lines = [
        "# Networks",
        "",
        "Made by `python examples/networks.py --json results/networks.json --docs docs/networks.md`: ECA with an",
        "identity start, on random weights with lively norms. Errors are relative to the largest output: of insertion",
        "before any training, and of `deploy` after norms and gates were moved, in each target's form, run in PyTorch.",
        "Seconds were taken on a machine that others shared. `-`: not tried.",
        "",
        f"{len(rows)} networks: {len(rows) - refused - wrong} pass, {refused} are refused with a reason, {wrong} fail.",
        "",
        f"| network | sites | kind | identity | {' | '.join(TARGETS)} | insert, s | deploy, s | ONNX |",
        "|---|---|---|---" + "|---" * (len(TARGETS) + 3) + "|",
    ]
    for found in rows:
        if "sites" not in found:
            reason = found.get("refused") or f"FAILED: {found['failed']}"
            lines.append(f"| {found['network']} | {reason} |" + " |" * (len(TARGETS) + 5))
            continue
        errors = [_error(found[target]) if target in found else "-" for target in TARGETS]
        seconds = f"{found['insert_s']:.1f} | {found['eager']['s']:.1f}"
        values = [f"{found['identity_error']:.0e}", *errors, seconds, found.get("exported", "-")]
        lines.append(f"| {found['network']} | {found['sites']} | {found['kind']} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _error(deployed):
    return f"{deployed['error']:.0e}" + " (as it is)" * deployed["left_as_it_is"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; all by default")
    parser.add_argument("--json", type=Path, default=Path("results/networks.json"))
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--no-export", action="store_true", help="leave the export to ONNX out")
    args = parser.parse_args()
    known = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    rows = {found["network"]: found for found in known}
    for name in args.names or NETWORKS:
        if name in rows:
            continue
        try:
            rows[name] = row(name, targets=args.targets, export=not args.no_export)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "")
            rows[name] = {"network": name, "failed": f"{type(error).__name__}: {reason}"}
        print(name, failures(rows[name]) or "ok", rows[name].get("refused", ""), flush=True)
        about = {"machine": platform.machine(), "torch": torch.__version__, "recalib": recalib.__version__}
        results = {"command": "python examples/networks.py", **about, "rows": list(rows.values())}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        if args.docs:
            args.docs.write_text(page(list(rows.values())))


if __name__ == "__main__":
    main()
