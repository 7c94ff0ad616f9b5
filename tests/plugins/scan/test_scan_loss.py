"""SCAN's losses against naive twins."""

import math

import pytest
import torch
from torch import nn

from deepclust.plugins.scan.loss import balanced_cross_entropy, entropy, inconsistency
from made_logits import logits


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def test_inconsistency_against_loops():
    a, b = logits(7, 4), logits(7, 4, seed=1)
    pairs = [(softmax(x), softmax(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    expected = -sum(math.log(sum(p * q for p, q in zip(*pair, strict=True))) for pair in pairs) / 7
    assert float(inconsistency(a, b)) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(inconsistency(a, b), inconsistency(b, a))


def test_entropy_against_loops():
    a = logits(9, 5, scale=3)
    rows = [softmax(row) for row in a.tolist()]
    share = [sum(column) / 9 for column in zip(*rows, strict=True)]
    assert float(entropy(a)) == pytest.approx(-sum(s * math.log(s) for s in share), rel=1e-5)
    assert float(entropy(torch.zeros(3, 6))) == pytest.approx(math.log(6))
    assert float(entropy(torch.tensor([[50.0, 0, 0]] * 4))) == pytest.approx(0, abs=1e-5)


def test_with_a_prior_the_entropy_is_log_k_less_the_divergence_from_it():
    a, prior = logits(9, 4, scale=3), [0.5, 0.25, 0.15, 0.1]
    rows = [softmax(row) for row in a.tolist()]
    share = [sum(column) / 9 for column in zip(*rows, strict=True)]
    divergence = sum(s * math.log(s / p) for s, p in zip(share, prior, strict=True))
    assert float(entropy(a, torch.tensor(prior))) == pytest.approx(math.log(4) - divergence, rel=1e-5)
    torch.testing.assert_close(entropy(a, torch.full((4,), 0.25)), entropy(a))
    as_it_says = torch.tensor(prior).log().expand(9, 4)
    assert float(entropy(as_it_says, torch.tensor(prior))) == pytest.approx(math.log(4), rel=1e-5)
    two = logits(6, 3, 4)
    each = torch.stack([entropy(two[:, i], torch.tensor(prior)) for i in range(3)])
    assert torch.allclose(entropy(two, torch.tensor(prior)), each)


def test_losses_of_several_heads_are_those_of_each():
    a, b = logits(6, 3, 4), logits(6, 3, 4, seed=1)
    for loss in (lambda x, y: inconsistency(x, y), lambda x, y: entropy(x)):
        assert torch.allclose(loss(a, b), torch.stack([loss(a[:, i], b[:, i]) for i in range(3)]))


def test_nothing_in_common_is_finite_and_has_a_gradient():
    """A softmax followed by the log of a dot product would be infinite here."""
    a = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = inconsistency(a, torch.tensor([[0.0, 200.0]]))
    assert float(loss) == pytest.approx(200 - math.log(2), rel=1e-4)
    loss.backward()
    assert torch.isfinite(a.grad).all()
    assert float(a.grad.abs().sum()) > 0


def test_half_precision_logits_are_summed_in_float32():
    a = logits(4, 3)
    assert inconsistency(a.bfloat16(), a.bfloat16()).dtype == entropy(a.bfloat16()).dtype == torch.float32


def test_the_losses_gradients():
    a, b = (logits(5, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    double = torch.Tensor.double  # gradcheck needs what .float() would take away

    def exact(function):
        def call(*tensors):
            before = torch.Tensor.float
            torch.Tensor.float = double
            try:
                return function(*tensors)
            finally:
                torch.Tensor.float = before

        return call

    assert torch.autograd.gradcheck(exact(inconsistency), (a, b))
    assert torch.autograd.gradcheck(exact(entropy), (a,))


def test_balanced_cross_entropy_is_the_mean_over_clusters_of_their_means():
    scores, labels = logits(40, 4), torch.arange(40) % 7 % 4
    chosen = torch.arange(40) % 3 > 0
    each = nn.functional.cross_entropy(scores, labels, reduction="none")
    means = [each[(labels == k) & chosen].mean() for k in range(4) if ((labels == k) & chosen).any()]
    assert torch.allclose(balanced_cross_entropy(scores, labels, chosen), torch.stack(means).mean())
    assert torch.allclose(
        balanced_cross_entropy(scores, labels, chosen),
        nn.functional.cross_entropy(
            scores[chosen], labels[chosen], weight=1 / torch.bincount(labels[chosen], minlength=4).float()
        ),
    )


def test_no_certain_sample_is_no_loss_and_no_gradient():
    scores = logits(5, 3).requires_grad_()
    loss = balanced_cross_entropy(scores, torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.bool))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(scores.grad, torch.zeros(5, 3))
