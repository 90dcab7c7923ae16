"""Attention in a real Trainer of Lightning: trained, saved, resumed."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import recalib
from recalib.integrations.lightning import insert_attention
from recalib.surgery import inserted

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = recalib.cifar_resnet(8)

    def training_step(self, batch, index):
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def test_step(self, batch, index):
        self.log("loss", self.training_step(batch, index))

    def configure_optimizers(self):
        return torch.optim.SGD(recalib.param_groups(self, 1e-4), lr=0.1)


@pytest.fixture(scope="module")
def data():
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(images, torch.arange(8)), batch_size=4)


def trainer(folder, callback, epochs=1):
    return lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[callback], default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def test_attention_is_trained_saved_and_resumed(data, tmp_path):
    module, callback = Classifier(), insert_attention("se", network="model")
    first = trainer(tmp_path, callback)
    first.fit(module, data)
    assert len(inserted(module.model).placements) == 3
    weight = module.model.layer1[0].attention.blend
    assert any(p.abs().sum() > 0 for name, p in weight.named_parameters() if "w" in name)  # it was zero at the start
    first.test(module, data, verbose=False)  # nothing is inserted twice
    assert len(inserted(module.model).placements) == 3
    path = tmp_path / "a.ckpt"
    first.save_checkpoint(path)

    again = Classifier()
    trainer(tmp_path, insert_attention("se", network="model"), epochs=2).fit(again, data, ckpt_path=path)
    assert again.global_step == 4

    with pytest.raises(RuntimeError, match=r"attention\.fc1"):  # Lightning's own message: keys of another attention
        trainer(tmp_path, insert_attention("eca", network="model"), epochs=2).fit(Classifier(), data, ckpt_path=path)


def test_the_pretrained_network_predicts_what_it_did(data, tmp_path):
    module = Classifier().eval()
    images = next(iter(data))[0]
    before = module.model(images)
    insert_attention("se", network="model").setup(None, module, "fit")
    assert torch.equal(module.model(images), before)


def test_a_network_that_is_not_there_is_named():
    with pytest.raises(recalib.RecalibError, match="network='backbone': Classifier has no module of that name"):
        insert_attention("se", network="backbone").setup(None, Classifier(), "fit")
