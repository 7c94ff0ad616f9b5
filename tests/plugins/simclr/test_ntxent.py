"""NT-Xent against a naive twin: values, gradients, invariances, memory in pieces, several processes."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from deepclust.plugins.simclr.loss import gather, nt_xent


def naive(a, b, temperature):
    """Eq. 1 and its mean, in loops over Python numbers, and the share of positives that are nearest."""
    rows = [[float(v) for v in row] for row in torch.cat((a, b)).double()]
    n = len(a)

    def similarity(u, v):
        dot = sum(x * y for x, y in zip(u, v, strict=True))
        return dot / math.sqrt(sum(x * x for x in u)) / math.sqrt(sum(x * x for x in v))

    total = hits = 0
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        near = {k: similarity(rows[i], rows[k]) / temperature for k in range(2 * n) if k != i}
        total -= math.log(math.exp(near[positive]) / sum(math.exp(v) for v in near.values()))
        hits += max(near, key=near.get) == positive
    return total / (2 * n), hits / (2 * n)


def masked(a, b, temperature):
    """The loss as a cross-entropy over a whole matrix, for gradients."""
    z = torch.cat((a, b))
    z = z / z.norm(dim=1, keepdim=True)
    n = len(a)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    return torch.nn.functional.cross_entropy(logits, torch.arange(2 * n).roll(n))


def views(n=5, d=4, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=g, dtype=torch.float64)
    return a.to(dtype), (a + 0.7 * torch.randn(n, d, generator=g, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
def test_loss_and_accuracy_are_those_of_loops(n, temperature, chunk):
    a, b = views(n)
    loss, accuracy = nt_xent(a, b, temperature, chunk=chunk)
    expected, share = naive(a, b, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(accuracy) == share


def test_some_of_the_accuracies_are_neither_0_nor_1():
    assert 0 < naive(*views(8), 0.5)[1] < 1


@pytest.mark.parametrize("chunk", [0, 2])
def test_gradients_are_those_of_differences_and_of_the_plain_softmax(chunk):
    a, b = (v.requires_grad_() for v in views())
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5, chunk=chunk)[0], (a, b))
    ours = torch.autograd.grad(nt_xent(a, b, 0.2, chunk=chunk)[0], (a, b))
    torch.testing.assert_close(ours, torch.autograd.grad(masked(a, b, 0.2), (a, b)))


def test_scale_order_and_exchange_of_the_views_do_not_matter():
    a, b = views(9)
    expected = nt_xent(a, b, 0.3)
    scale = torch.rand(9, 1, dtype=torch.float64) * 50 + 1e-3
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    for changed in ((a * scale, b / scale), (a[order], b[order]), (b, a)):
        torch.testing.assert_close(nt_xent(*changed, 0.3), expected)
    assert float(nt_xent(a, b[order], 0.3)[0]) > float(expected[0])  # but who belongs to whom does


def test_views_that_collapsed_are_no_success():
    a = torch.ones(50, 3)
    loss, accuracy = nt_xent(a, a.clone())
    assert float(loss) == pytest.approx(math.log(99), rel=1e-5)
    assert float(accuracy) <= 0.02


@pytest.mark.parametrize("chunk", [0, 16])
def test_similarities_are_float32_where_the_rest_is_bf16(chunk):
    a, b = views(64, 16, torch.bfloat16)
    expected = masked(a.double(), b.double(), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nt_xent(a, b, 0.05, chunk=chunk)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)  # bf16 has 3 digits
    a, b = a.float().requires_grad_(), b.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nt_xent(a, b, 0.05, chunk=chunk)
    loss.backward()
    exact = a.detach().double().requires_grad_()
    masked(exact, b.double(), 0.05).backward()
    torch.testing.assert_close(a.grad.double(), exact.grad, rtol=1e-3, atol=1e-6)


def test_embeddings_of_length_0_and_far_apart_temperatures_stay_finite():
    a, b = views(4, dtype=torch.float32)
    a[1] = 0
    a.requires_grad_()
    loss, _ = nt_xent(a, b, 1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()


class Sizes(TorchDispatchMode):
    """The most elements of any tensor that an operation gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


def test_in_pieces_no_more_than_these_rows_exist_and_nothing_of_them_is_kept():
    n, d, chunk = 96, 4, 8
    results = []
    for rows in (0, chunk):
        a, b = (v.requires_grad_() for v in views(n, d))
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor.numel())
            return tensor

        with Sizes() as sizes, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss, accuracy = nt_xent(a, b, 0.2, chunk=rows)
            loss.backward()
        results.append((sizes.largest, max(kept), loss.detach(), accuracy, a.grad, b.grad))
    (whole, whole_kept, *expected), (part, _, *got) = results
    assert whole == n * 2 * n  # what the mode sees where it is not asked to save
    assert whole_kept == n * 2 * n
    assert part == chunk * 2 * n
    torch.testing.assert_close(got, expected)


def live_bytes(n, chunk):
    """The most bytes of similarities that live at once, by the allocator's own count."""
    a, b = (v.requires_grad_() for v in views(n, 4, torch.float32))
    with torch.profiler.profile(profile_memory=True) as profile:
        nt_xent(a, b, 0.2, chunk=chunk)[0].backward()
    total = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


def test_in_pieces_the_peak_of_forward_and_backward_is_a_few_pieces():
    n, chunk = 512, 16
    piece = chunk * 2 * n * 4
    assert live_bytes(n, 0) > 2 * n * 2 * n * 4
    assert live_bytes(n, chunk) < 8 * piece + 64 * n * 4 * 4  # and some tensors of the embeddings' size


def weighted(seed, d=6):
    """A linear map, through which gradients of parameters are compared too."""
    weight = torch.randn(3, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return weight.requires_grad_()


def process(rank, world, n, address, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=world)
    a, b = views(world * n, 6)
    own = slice(rank * n, (rank + 1) * n)
    result = {}
    for chunk in (0, 2):
        weight = weighted(1)
        mine = [v[own].clone().requires_grad_() for v in (a, b)]
        loss, accuracy = nt_xent(*(v @ weight.T for v in mine), 0.3, chunk=chunk)
        loss.backward()
        result[chunk] = [loss.detach(), accuracy, weight.grad, *(v.grad for v in mine)]
    result["rows"] = gather(torch.full((1, 2), float(rank)))
    torch.save(result, f"{out}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path):
    world, n = 2, 5
    given = [str(world), str(n), str(tmp_path / "meeting"), str(tmp_path)]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), *given], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for rank in range(world)
    ]
    try:
        assert [r.wait(timeout=120) for r in running] == [0] * world
    finally:
        for r in running:
            r.kill()
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world)]
    a, b = (v.requires_grad_() for v in views(world * n, 6))
    weight = weighted(1)
    loss, accuracy = nt_xent(a @ weight.T, b @ weight.T, 0.3)
    loss.backward()
    for chunk in (0, 2):
        losses, accuracies, weights, ours_a, ours_b = zip(*(r[chunk] for r in results), strict=True)
        torch.testing.assert_close(sum(losses) / world, loss.detach())
        torch.testing.assert_close(sum(accuracies) / world, accuracy)
        torch.testing.assert_close(sum(weights) / world, weight.grad)
        torch.testing.assert_close(torch.cat(ours_a) / world, a.grad)
        torch.testing.assert_close(torch.cat(ours_b) / world, b.grad)
        assert not torch.allclose(losses[0], losses[1])  # each counts its own rows
    for result in results:
        assert result["rows"].tolist() == [[0, 0], [1, 1]]


def test_without_a_process_group_nothing_is_gathered():
    x = torch.rand(3, 2)
    assert gather(x) is x


if __name__ == "__main__":  # one of the processes of a test
    process(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
