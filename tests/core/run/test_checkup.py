"""What is found ill after training: models and clusterings made ill on purpose, and sound ones."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data, Encoder
from deepclust.core.engine import Batches, Updater
from deepclust.core.errors import TrainingFailed
from deepclust.core.run.checkup import (
    effective_clusters,
    look_at_clusters,
    look_at_codes,
    look_at_loss,
    look_at_units,
)
from deepclust.core.run.run import Run, read_notices


def blobs(n=120, k=3, seed=0):
    draw = np.random.default_rng(seed)
    centres = draw.normal(0, 5, (k, 4))
    labels = np.arange(n) % k
    return torch.from_numpy(centres[labels] + draw.normal(0, 0.3, (n, 4))).float(), labels


def updater_of(model, data, loss):
    return Updater(Batches(data, 40, 0), model, torch.optim.SGD(model.parameters(), 0.1), loss)


@pytest.mark.parametrize(("dead", "said"), [(0, 0), (20, 0), (38, 1)])
def test_units_that_never_act_are_found_and_nothing_is_changed(dead, said):
    torch.manual_seed(0)
    data = Data(blobs()[0], "blobs")
    model = nn.Sequential(nn.Linear(4, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.1), nn.Linear(40, 2))
    with torch.no_grad():
        model[1].bias[:dead] = -100.0
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    found = look_at_units(updater_of(model, data, lambda b: model(b.x).square().mean()), "stage")
    assert len(found) == said
    if said:
        assert "95% of the units of layer 0 never act" in found[0].text
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_layer_after_a_silent_one_is_not_blamed():
    """Its weights have no gradient either, as all that it is shown is 0, but it acts."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    data = Data(blobs()[0], "blobs")
    (found,) = look_at_units(updater_of(model, data, lambda b: (model(b.x) - 1).square().mean()), "stage")
    assert "100% of the units of one of the layers 0, 2 never act" in found.text


def test_a_loss_that_teaches_nothing_says_nothing_of_units():
    model = nn.Linear(4, 3)
    data = Data(blobs()[0], "blobs")
    assert look_at_units(updater_of(model, data, lambda b: 0 * model(b.x).sum()), "stage") == []


@pytest.mark.parametrize(
    ("losses", "said"),
    [([1.0, 0.5], 0), ([1.0, 1.05], 0), ([1.0, 0.2, 1.2], 1), ([-2.0, -1.0], 1), ([3.0], 0)],
)
def test_a_loss_that_ends_above_its_start_is_found(tmp_path, losses, said):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"loss": loss}) + "\n" for loss in losses))
    found = look_at_loss(log, "stage")
    assert len(found) == said
    assert look_at_loss(tmp_path / "none.jsonl", "stage") == []


class Fixed(Encoder):
    """A linear map, and its decoder where asked."""

    Config = None

    def __init__(self, weight):
        super().__init__(None, (4,))
        self.latent_dim = weight.shape[0]
        self.weight = nn.Parameter(weight)

    def fit(self, data, run):
        return self

    def forward(self, x):
        return x @ self.weight.T


class Decoding(Fixed):
    def decode(self, z):
        return z @ torch.linalg.pinv(self.weight).T


def looked(encoder, x=None):
    data = Data(blobs()[0] if x is None else x, "blobs")
    return look_at_codes(encoder, data, "enc", torch.no_grad)[0]


def test_sound_codes_are_not_complained_of():
    torch.manual_seed(1)
    assert looked(Fixed(torch.randn(3, 4))) == []
    assert looked(Decoding(torch.randn(3, 4))) == []
    assert looked(Fixed(torch.randn(1, 4))) == [], "one dimension is a line by wish"


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Fixed(torch.zeros(3, 4)), "the same code"),
        (Fixed(torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.ones(4))), "on one line"),
    ],
)
def test_collapsed_codes_are_ill_with_their_cause(encoder, words):
    (found,) = looked(encoder)
    assert words in found.text
    assert found.ill


@pytest.mark.parametrize(
    ("apart", "spread", "line"), [(100, (1, 1), False), (100, (1, 0), True), (8, (1, 0.01), True)]
)
def test_two_tight_groups_are_no_line_unless_each_is_one(apart, spread, line):
    """Tight: 100 deviations apart; at 8 with hardly any width it is a line with a gap."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(spread)
    x[::2, 0] += apart
    found = looked(Fixed(torch.eye(2)), x * torch.tensor([1.0, 0.5]))
    assert [finding.ill for finding in found] == [True] * line


def test_codes_beyond_all_measure_end_the_run():
    with pytest.raises(TrainingFailed, match="as large as 1e.1[89], .* lower learning rate"):
        looked(Fixed(1e18 * torch.randn(3, 4)))


def test_equal_samples_are_blamed_and_not_the_encoder():
    (found,) = looked(Fixed(torch.randn(3, 4)), torch.ones(50, 4))
    assert "samples that were looked at are the same" in found.text


def test_codes_that_are_not_finite_end_the_run():
    with pytest.raises(TrainingFailed, match="not finite for 120 of 120"):
        looked(Fixed(torch.full((3, 4), torch.nan)))


def test_a_reconstruction_worse_than_the_mean_is_found():
    class Wrong(Decoding):
        def decode(self, z):
            return -super().decode(z)

    (found,) = looked(Wrong(torch.eye(4)))
    assert "no better than their mean" in found.text
    assert not found.ill


def test_lost_clusters_are_told_from_groups_that_are_not_there():
    z, labels = blobs(k=6)
    before = effective_clusters(z, 6, 0)
    assert before == pytest.approx(6, abs=0.01)
    assert look_at_clusters(labels, 6, before, False, "dec") == []
    (lost,) = look_at_clusters(labels // 3, 6, before, False, "dec")
    assert "dec lost them" in lost.text
    (ill,) = look_at_clusters(labels // 3, 6, before, True, "dec")
    assert "mend these first" in ill.text
    (few,) = look_at_clusters(np.minimum(labels, 4), 6, 4.9, False, "dec")
    assert "fewer groups than were asked for" in few.text
    uneven = np.array([0] * 90 + [1] * 5 + [2] * 5)
    shape = effective_clusters(torch.from_numpy(np.eye(3)[uneven]), 3, 0)
    assert look_at_clusters(uneven, 3, shape, False, "dec") == [], "so are the samples themselves"
    assert all(f.ill for f in (lost, ill, few))


@dataclass(frozen=True)
class Nothing:
    pass


def test_a_stage_that_kills_its_units_says_so_in_the_run(tmp_path):
    """At so high a rate a network with ReLU dies in a few steps, whoever wrote it."""
    torch.manual_seed(0)
    data = Data(blobs()[0] + 20, "far from 0")
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    updater = Updater(Batches(data, 40, 0), model, optimizer, lambda b: (model(b.x) - b.x).square().mean())
    run = Run(tmp_path, quiet=True)
    run.train("own", updater, (3, "epoch"))
    assert any("never act" in notice.text for notice in read_notices(tmp_path))
