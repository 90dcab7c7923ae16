"""Networks on Hugging Face's hub, against a folder and against a hub of our own on loopback."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import save

import recalib
from recalib.cli import main
from recalib.deploy.classifier import open_classifier
from recalib.integrations import hub
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import inserted

COMMIT = "0123456789" * 4


class Hub:
    """As much of the hub as a push and a pull need: repositories of files, in memory."""

    def __init__(self):
        self.files = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def say(self, value):
                self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.endswith("/repos/create"):
                    asked = json.loads(body)
                    name = "/".join(filter(None, (asked.get("organization") or "me", asked["name"])))
                    hub.files.setdefault(name, {})
                    return self.say({"url": f"{hub.url}/{name}", "name": name, "id": name})
                if self.path == "/api/validate-yaml":  # of the card
                    return self.say({"errors": [], "warnings": []})
                name, what = re.search(r"/api/models/(.+)/(preupload|commit)/", self.path).groups()
                if what == "preupload":
                    files = json.loads(body)["files"]
                    return self.say(
                        {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
                    )
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        hub.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                return self.say(
                    {"commitOid": COMMIT, "commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "pullRequestUrl": None}
                )

            def do_GET(self):
                path = unquote(self.path.partition("?")[0])
                if match := re.fullmatch(r"/api/models/(.+?)(/revision/.+)?", path):
                    if match[1] not in hub.files:
                        return self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository Not Found")
                    return self.say({"id": match[1], "sha": COMMIT, "siblings": []})
                found = re.fullmatch(r"/(.+?)/resolve/[^/]+/(.+)", path)
                if found is None:
                    return self.answer(404, X_Error_Message=f"no {path} here")
                name, file = found.groups()
                if name not in hub.files:
                    return self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository Not Found")
                if file not in hub.files[name]:
                    return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
                body = hub.files[name][file]
                digest = hashlib.sha256(body).hexdigest()
                return self.answer(200, body, ETag=f'"{digest}"', X_Repo_Commit=COMMIT)

            do_HEAD = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A hub on loopback, which huggingface_hub takes for the hub."""
    served = Hub()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, served.url)
    for name, value in {
        "ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": True, "HF_TOKEN_PATH": str(tmp_path / "token"),
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    yield served
    served.server.shutdown()
    served.server.server_close()


def attended(name="resnet20", attention="eca", **options):
    torch.manual_seed(0)
    network = create_model(name, num_classes=7)
    recalib.insert_(network, attention, identity=True, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


ABOUT = hub.CardFacts(
    recipe="finetune-short", accuracy={"top-1 on CIFAR-10 test": 91.7}, license="mit",
    overheads={"ONNX Runtime, deployed": "+9.0 % [8.0, 10.1]"},
    metadata={"normalization": [[0.5] * 3, [0.25] * 3], "classes": list("abcdefg")},
)  # fmt: skip


def same(a, b):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


def test_a_folder_holds_weights_a_configuration_and_a_card(tmp_path):
    network = attended()
    hub.save_pretrained(network, tmp_path / "net", ABOUT)
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    with safe_open(tmp_path / "net" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["library_name"] == "recalib"
    assert config["recalib"]["architecture"]["name"] == "cifar_resnet20"
    assert same(hub.from_pretrained(tmp_path / "net"), network)


def test_the_card_states_module_start_recipe_accuracy_and_measured_overheads(tmp_path):
    hub.save_pretrained(attended(), tmp_path / "net", ABOUT)
    card = (tmp_path / "net" / "README.md").read_text()
    for fact in (
        "cifar_resnet20 with eca", "at 9 sites", "the exact identity", "Recipe: finetune-short", "license: mit",
        "top-1 on CIFAR-10 test: 91.7", "ONNX Runtime, deployed | +9.0 % [8.0, 10.1]", "Classes: 7",
        "less 0.5, 0.5, 0.5", "library_name: recalib", 'from_pretrained("net")',
    ):  # fmt: skip
        assert fact in card


def test_a_card_says_nothing_that_nobody_told(tmp_path):
    hub.save_pretrained(create_model("resnet20"), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert not [word for word in ("Recipe", "top-1", "Latency", "Attention", "None", "license") if word in card]


def test_a_network_is_pushed_and_pulled(served):
    network = attended(attention="srm")
    address = hub.push_to_hub(network, "me/net", ABOUT)
    assert address == f"{served.url}/me/net/commit/{COMMIT}"
    assert set(served.files["me/net"]) == {"README.md", "config.json", "model.safetensors"}
    assert b'from_pretrained("me/net")' in served.files["me/net"]["README.md"]
    assert same(hub.from_pretrained("me/net"), network)
    assert same(hub.from_pretrained("me/net@main"), network)


def test_a_name_makes_the_network_with_its_attention_and_pretrained_its_weights(served):
    network = attended()
    hub.push_to_hub(network, "me/net")
    fresh, loaded = (create_model("hf-hub:me/net", pretrained=pretrained) for pretrained in (False, True))
    assert inserted(fresh).sites == inserted(loaded).sites == inserted(network).sites
    assert {placement.attention for placement in inserted(fresh).placements} == {"eca"}
    assert same(loaded, network)
    assert not same(fresh, network)
    assert create_model("hf-hub:me/net", num_classes=3, pretrained=True).fc.out_features == 3


def test_a_network_of_timms_is_found_as_timm_finds_it(served):
    model = timm.create_model("resnet18", num_classes=5)
    timm.models.push_to_hf_hub(model, "me/timms")
    found = create_model("hf-hub:me/timms", pretrained=True)
    assert torch.equal(found.fc.weight, model.fc.weight)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("me/none", None, "404|not found|Not Found"),
        ("me/other", {"readme": b""}, "no config.json"),
        ("me/words", {"config.json": b'{"model_type": "bert"}'}, "no network of recalib's or timm's"),
        ("me/broken", {"config.json": b'{"library_name": "recalib", "recalib": {}}'}, "header is broken"),
        ("no name", None, "no name"),
    ],
)
def test_a_repository_without_a_network_is_one_line(served, name, files, message):
    if files is not None:
        served.files[name] = files
    with pytest.raises(recalib.RecalibError, match=message) as caught:
        create_model(f"hf-hub:{name}")
    assert "\n" not in str(caught.value)


def test_a_configuration_runs_no_code(served, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    network = attended()
    hub.push_to_hub(network, "me/net", hub.CardFacts(metadata={"architecture": "trap:make"}))
    for pretrained in (False, True):
        with pytest.raises(recalib.RecalibError, match="a file runs no code"):
            create_model("hf-hub:me/net", pretrained=pretrained)


def test_a_command_takes_the_name(served, tmp_path, capsys):
    hub.push_to_hub(attended(), "me/net")
    main(["sites", "hf-hub:me/net", "--json", str(tmp_path / "sites.json")])
    assert len(json.loads((tmp_path / "sites.json").read_text())["sites"]) == 9


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECALIB_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_published_weights_of_timm_are_a_checkpoint_by_name(served, cache):
    there = timm.create_model("resnet18")
    served.files["timm/resnet18.a1_in1k"] = {"model.safetensors": save(there.state_dict())}
    opened = open_classifier("timm:resnet18.a1_in1k", pretrained=True)
    assert torch.equal(opened.network.fc.weight, there.fc.weight)
    assert (opened.form, opened.about.size, opened.about.interpolation) == ("pretrained", (224, 224), "bicubic")
    assert opened.about.crop == timm.create_model("resnet18.a1_in1k").pretrained_cfg["crop_pct"]
    served.files.clear()  # it is kept
    info = recalib.inspect_checkpoint(weights_of(Path("timm:resnet18.a1_in1k")))
    assert (info.architecture, info.num_classes) == ("resnet18", 1000)


@pytest.mark.parametrize("name", ["torchvision:resnet18.IMAGENET1K_V1", "torchvision:ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights_of_torchvision_are_a_checkpoint_by_the_name_of_their_enum(name, cache, monkeypatch):
    there = torchvision.models.resnet18()
    monkeypatch.setitem(torchvision.models._api.BUILTIN_MODELS, "anothers", lambda: there)  # has no weights
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: there.state_dict())
    found = recalib.load_checkpoint(weights_of(Path(name)))
    assert torch.equal(found.fc.weight, there.fc.weight)
    opened = open_classifier(name, attention="eca", pretrained=True)
    assert opened.about.labels[0] == "tench"
    assert opened.about.crop == 224 / 256
    assert opened.about.mean == (0.485, 0.456, 0.406)


def test_a_pushed_network_is_a_checkpoint_by_name_with_its_classes(served):
    network = attended()
    hub.push_to_hub(network, "me/net", ABOUT)
    opened = open_classifier(weights_of(Path("hf-hub:me/net")))
    assert same(opened.network, network)
    assert opened.about.labels == tuple("abcdefg")
    assert opened.about.mean == (0.5, 0.5, 0.5)
