"""The training loop never waits for the device: no value is read where none is needed."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deepclust.core import Data
from deepclust.core.engine import Batches, Trainer, Updater, report
from deepclust.core.engine.extensions import LearningRate, Log, Snapshot, cosine


def toy() -> Data:
    return Data(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), "toy")


class CountWaits(TorchDispatchMode):
    """Counts what makes the host wait for the device: item() and its kind, and copies to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal)
        self.count += func.overloadpacket in waits
        return func(*args, **(kwargs or {}))


def waits_of(trainer: Trainer) -> int:
    with CountWaits() as waits:
        trainer.run()
    return waits.count


def test_the_loop_never_waits_for_the_device(tmp_path):
    def make(name):
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6))

        def loss(batch):
            error = (model(batch.x) - batch.x).square().mean()
            report({"error": error, "constant": 1.0})
            return error

        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        trainer = Trainer(
            Updater(Batches(toy(), 5, seed=1), model, optimizer, loss), (100, "iteration"), tmp_path / name
        )
        trainer.extend(LearningRate(cosine()))
        trainer.extend(Log())
        trainer.extend(Snapshot(), trigger=(1, "epoch"))
        return trainer

    quiet = waits_of(make("a"))
    assert quiet <= 11  # one a log line at the most: 10 epochs of 10 iterations
    loud = make("b")
    loud.extend(lambda t: next(t.updater.models[""].parameters()).sum().item(), name="item")
    assert waits_of(loud) == quiet + 100  # the counter sees what it should


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_loop_never_waits_for_a_gpu(tmp_path):
    device = torch.device("cuda:0")
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6)).to(device)
    updater = Updater(
        Batches(toy().to(device), 5, seed=1), model, torch.optim.Adam(model.parameters(), fused=True),
        lambda batch: (model(batch.x) - batch.x).square().mean(),
    )  # fmt: skip
    trainer = Trainer(updater, (59, "iteration"), tmp_path)
    trainer.extend(LearningRate(cosine()))
    trainer.extend(Log(), trigger=(1000, "iteration"))
    strict = [11, 12, 13, 14, 15, 16, 17, 18]  # within an epoch: its permutation's copy may wait
    trainer.extend(
        lambda t: torch.cuda.set_sync_debug_mode("error" if t.iteration in strict else "default"), name="mode"
    )
    try:
        trainer.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.iteration == 59
