"""How long a training goes and how large its batches are, where nobody says."""

import pytest
import torch
from torch import nn

from deepclust.core import Data
from deepclust.core.toolbox.length import BACKWARD, MOST_FLOPS, affordable_steps, batch_size, whole_epochs
from deepclust.plugins.sdae.model import SDAE, SDAEConfig
from made_training import fit, log_of, quiet


def rows(n, dim=6) -> Data:
    return Data(torch.randn(n, dim, generator=torch.Generator().manual_seed(0)), f"{n} rows")


@pytest.mark.parametrize("asked", [1, 16, 64, 256, 4096])
def test_a_batch_holds_what_was_asked_for_or_a_quarter_of_the_samples(asked):
    for n in range(1, 3000, 7):
        size = batch_size(asked, n)
        assert 1 <= size <= asked
        if n <= 64:
            assert size == min(asked, 16)
        elif asked < n / 4:
            assert size == asked
        else:
            assert n / 4 <= size < n / 4 + 1
        assert size <= batch_size(asked, n + 1)  # more samples never make batches smaller


def test_a_runs_batches_hold_a_quarter_at_most(tmp_path):
    run = quiet(tmp_path)
    sizes = {n: len(run.batches(rows(n), 256, "stage")[0].x) for n in (10, 100, 1797)}
    assert sizes == {10: 10, 100: 25, 1797: 256}


def test_epochs_are_the_usual_ones_within_the_bounds():
    """Steps within half an epoch of what was asked, whatever the numbers."""
    for usual in (1, 20, 60):
        for per_epoch in (1, 4, 7, 274):
            for least in (1, 480, 10_000):
                for most in (1, 300, 7840, 10**6):
                    epochs = whole_epochs(usual, per_epoch, least, most)
                    steps = epochs * per_epoch
                    assert epochs >= 1
                    assert steps <= max(per_epoch, most + per_epoch / 2)
                    assert steps >= min(least, most) - per_epoch / 2
                    if least <= usual * per_epoch <= most:
                        assert epochs == usual


def test_what_is_affordable_is_counted_in_products():
    """A dense layer from a to b costs 2 a b a sample, its training three times as much."""
    a, b, batch = 300, 70, 32
    x = torch.zeros(2, a)
    layer = nn.Linear(a, b)
    assert affordable_steps(layer, x, batch) == int(MOST_FLOPS / (3 * 2 * a * b * batch))
    assert BACKWARD == 3
    both = nn.Sequential(layer, nn.ReLU(), nn.Linear(b, 5))
    assert affordable_steps(both, x, batch) == int(MOST_FLOPS / (3 * 2 * (a * b + b * 5) * batch))
    assert affordable_steps(layer, x, batch, passes=2) == affordable_steps(layer, x, 2 * batch)
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    products = 10 * 12 * 8 * 3 * 9
    assert affordable_steps(convolution, torch.zeros(2, 3, 10, 12), 1) == int(MOST_FLOPS / (6 * products))
    assert affordable_steps(nn.Identity(), x, 10**9) > 0  # nothing to count


def test_counting_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    affordable_steps(model, torch.randn(5, 6), 8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(value.grad is None for value in model.parameters())


def test_a_run_scales_what_was_chosen_and_what_was_said(tmp_path):
    data = rows(100)
    for scale, chosen, said in ((1.0, 120, 30), (0.5, 60, 15), (2.0, 240, 60), (1e-6, 1, 1)):
        run = quiet(tmp_path, epochs_scale=scale)
        batches = run.batches(data, 256, "stage")  # 4 an epoch
        bounds = {"usual": 60, "least": 480, "most": 10**6}
        assert run.length(None, batches, **bounds) == (chosen, "epoch")
        assert run.length(30, batches, **bounds) == (said, "epoch")  # bounds are for what nobody said


def test_a_hundred_rows_get_as_many_steps_as_many(tmp_path):
    small = {"hidden": (4,), "latent_dim": 2}
    steps = {}
    for n in (100, 1797):
        torch.manual_seed(0)
        fit(SDAE(SDAEConfig(**small), (6,)), rows(n), tmp_path / str(n))
        folder = tmp_path / str(n)
        steps[n] = {stage: log_of(folder / stage)[-1]["iteration"] for stage in ("layer0", "finetune")}
    assert steps == {100: {"layer0": 160, "finetune": 480}, 1797: {"layer0": 160, "finetune": 480}}


def test_a_large_network_is_trained_for_fewer_steps(tmp_path, monkeypatch):
    monkeypatch.setattr("deepclust.core.toolbox.length.MOST_FLOPS", 100 * 3 * 2 * 16 * 2 * (6 * 4 + 4 * 2))
    torch.manual_seed(0)
    settings = {"hidden": (4,), "latent_dim": 2, "batch_size": 16, "layer_epochs": 0}
    fit(SDAE(SDAEConfig(**settings), (6,)), rows(64), tmp_path)
    assert log_of(tmp_path / "finetune")[-1]["iteration"] == 100
