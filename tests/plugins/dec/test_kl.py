"""DEC's numbers against double loops, autograd, closed formulas and what must not change them."""

import shutil

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from deepclust.plugins.dec.kl import kl_loss, soft_assignment, squared_distances, target_distribution

ALPHAS = [1.0, 2.5]


def inputs(n=7, k=4, dim=3, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, centres and a target, the first two wanting gradients."""
    g = torch.Generator().manual_seed(seed)
    z, centers = torch.randn(n, dim, generator=g, dtype=dtype), torch.randn(k, dim, generator=g, dtype=dtype)
    p = torch.rand(n, k, generator=g, dtype=dtype)
    return z.requires_grad_(), centers.requires_grad_(), p / p.sum(1, keepdim=True)


def naive_q(z: Tensor, centers: Tensor, alpha: float) -> Tensor:
    rows = []
    for i in range(len(z)):
        kernel = [
            (1 + ((z[i] - centers[j]) ** 2).sum() / alpha) ** (-(alpha + 1) / 2) for j in range(len(centers))
        ]
        rows.append(torch.stack(kernel) / sum(kernel))
    return torch.stack(rows)


def naive_p(q: Tensor) -> Tensor:
    p = torch.zeros_like(q)
    for i in range(len(q)):
        for j in range(q.shape[1]):
            p[i, j] = q[i, j] ** 2 / sum(q[m, j] for m in range(len(q)))
        p[i] = p[i] / p[i].sum()
    return p


def naive_kl(z: Tensor, centers: Tensor, p: Tensor, alpha: float) -> Tensor:
    q, total = naive_q(z, centers, alpha), 0.0
    for i in range(len(z)):
        for j in range(len(centers)):
            if p[i, j] > 0:
                total = total + p[i, j] * (p[i, j] / q[i, j]).log()
    return total / len(z)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_values_are_those_of_double_loops(alpha):
    z, centers, p = inputs()
    torch.testing.assert_close(soft_assignment(z, centers, alpha), naive_q(z, centers, alpha))
    torch.testing.assert_close(kl_loss(z, centers, p, alpha), naive_kl(z, centers, p, alpha))
    q = naive_q(z, centers, alpha).detach()
    torch.testing.assert_close(target_distribution(q), naive_p(q))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_are_autograds_of_double_loops(alpha):
    z, centers, p = inputs()
    got = torch.autograd.grad(kl_loss(z, centers, p, alpha), (z, centers))
    expected = torch.autograd.grad(naive_kl(z, centers, p, alpha), (z, centers))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_are_the_papers_formulas(alpha):
    z, centers, p = inputs()
    got = torch.autograd.grad(kl_loss(z, centers, p, alpha), (z, centers))
    with torch.no_grad():
        difference = z[:, None] - centers[None]  # (B, K, D)
        pull = (p - naive_q(z, centers, alpha)) / (1 + difference.square().sum(2) / alpha)
        terms = (alpha + 1) / alpha * pull[..., None] * difference
        torch.testing.assert_close(got[0], terms.sum(1) / len(z))  # eq. 4, a sample's share
        torch.testing.assert_close(got[1], -terms.sum(0) / len(z))  # eq. 5


@pytest.mark.parametrize("alpha", ALPHAS)
def test_first_and_second_derivatives_are_finite_differences(alpha):
    z, centers, p = inputs(n=4, k=3, dim=2)
    assert gradcheck(lambda a, b: kl_loss(a, b, p, alpha), (z, centers))
    assert gradgradcheck(lambda a, b: kl_loss(a, b, p, alpha), (z, centers))
    fixed = centers.detach()
    assert gradcheck(lambda a: kl_loss(a, fixed, p, alpha), (z,))
    fixed_z = z.detach()
    assert gradcheck(lambda b: kl_loss(fixed_z, b, p, alpha), (centers,))


def test_the_target_is_a_constant():
    z, centers, p = inputs()
    p.requires_grad_()
    assert torch.autograd.grad(kl_loss(z, centers, p), (p,), allow_unused=True) == (None,)


def test_a_loss_times_a_number_has_gradients_times_that_number():
    z, centers, p = inputs()
    one = torch.autograd.grad(kl_loss(z, centers, p), (z, centers))
    three = torch.autograd.grad(3 * kl_loss(z, centers, p), (z, centers))
    torch.testing.assert_close(three, tuple(3 * g for g in one))


def test_autocast_leaves_it_in_float32():
    z, centers, p = inputs(n=64, k=10, dim=10, dtype=torch.float32)
    exact = kl_loss(z, centers, p)
    grads = torch.autograd.grad(exact, (z, centers))
    with torch.autocast("cpu", torch.bfloat16):
        loss = kl_loss(z, centers, p)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, (z, centers)), grads, rtol=1e-5, atol=1e-7)
    low = z.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = kl_loss(low, centers, p)
    loss.backward()
    assert (loss.dtype, low.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss, exact, rtol=2e-2, atol=0)
    torch.testing.assert_close(low.grad.float(), grads[0], rtol=5e-2, atol=2e-4)


BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles(backend):
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler")
    z, centers, p = inputs(n=32, k=5, dim=4, dtype=torch.float32)
    compiled = torch.compile(kl_loss, backend=backend, fullgraph=True)
    loss, expected = compiled(z, centers, p), kl_loss(z, centers, p)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (z, centers)), torch.autograd.grad(expected, (z, centers))
    )


def test_torch_func_takes_gradients_and_maps():
    z, centers, p = (t.detach() for t in inputs())
    leaves = z.clone().requires_grad_(), centers.clone().requires_grad_()
    expected = torch.autograd.grad(kl_loss(*leaves, p), leaves)
    torch.testing.assert_close(torch.func.grad(kl_loss, argnums=(0, 1))(z, centers, p), expected)
    many = torch.stack([z, z + 1, -z])  # three batches of codes
    mapped = torch.func.vmap(kl_loss, in_dims=(0, None, None))(many, centers, p)
    torch.testing.assert_close(mapped, torch.stack([kl_loss(m, centers, p) for m in many]))
    both = torch.func.vmap(torch.func.grad(kl_loss), in_dims=(0, None, None))(many, centers, p)
    torch.testing.assert_close(both[0], expected[0])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_moving_and_turning_the_space_changes_no_assignment(alpha):
    z, centers, _ = (t.detach() for t in inputs(n=20, k=5, dim=4))
    q = soft_assignment(z, centers, alpha)
    moved = torch.tensor([3.0, -7.0, 0.5, 11.0], dtype=torch.float64)
    torch.testing.assert_close(soft_assignment(z + moved, centers + moved, alpha), q)
    turn = torch.linalg.qr(inputs(n=4, dim=4, seed=1)[0].detach())[0]
    torch.testing.assert_close(soft_assignment(z @ turn, centers @ turn, alpha), q)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(soft_assignment(z, centers[order], alpha), q[:, order])


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 2.5, 100.0])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1.0, 1e3, 1e15])
def test_rows_sum_to_one_and_nothing_is_nan_near_or_far(alpha, size):
    z, centers, p = inputs(n=30, k=6, dim=5, dtype=torch.float32)
    z = (size * z).detach().requires_grad_()
    q = soft_assignment(z, centers, alpha)
    torch.testing.assert_close(q.sum(1), torch.ones(30))
    assert (q >= 0).all()
    loss = kl_loss(z, centers, p, alpha)
    grads = torch.autograd.grad(loss, (z, centers))
    assert all(torch.isfinite(t).all() for t in (loss, *grads))


def test_a_code_on_its_centre_has_finite_derivatives():
    _, centers, p = inputs(n=4, k=4, dtype=torch.float32)
    z = centers.detach().clone().requires_grad_()
    loss = kl_loss(z, centers, p)
    grads = torch.autograd.grad(loss, (z, centers), create_graph=True)
    seconds = torch.autograd.grad(sum(g.square().sum() for g in grads), (z, centers))
    assert all(torch.isfinite(t).all() for t in (loss, *grads, *seconds))
    assert soft_assignment(z, centers).argmax(1).tolist() == [0, 1, 2, 3]


def test_distances_are_never_negative():
    z = 1e4 + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    distances = squared_distances(z, z)
    assert (distances >= 0).all()
    near = squared_distances(z.double(), z[:9].double())
    torch.testing.assert_close(near, torch.cdist(z.double(), z[:9].double()) ** 2, atol=1e-6, rtol=1e-6)


def test_the_loss_is_a_divergence():
    z, centers, p = inputs(n=40)
    assert kl_loss(z, centers, p) > 0
    own = soft_assignment(z, centers).detach()
    loss = kl_loss(z, centers, own)
    assert abs(float(loss.detach())) < 1e-12
    grads = torch.autograd.grad(loss, (z, centers))
    assert all(g.abs().max() < 1e-12 for g in grads)
    hard = torch.nn.functional.one_hot(torch.arange(40) % 4, 4).double()  # zeros in the target
    torch.testing.assert_close(kl_loss(z, centers, hard), naive_kl(z, centers, hard, 1.0))


def test_the_target_sharpens_and_evens_out():
    g = torch.Generator().manual_seed(0)
    q = torch.rand(500, 5, generator=g).square()
    q = q / q.sum(1, keepdim=True)
    p = target_distribution(q)
    torch.testing.assert_close(p.sum(1), torch.ones(500))

    def entropy(d):
        return -torch.xlogy(d, d).sum(1)

    assert entropy(p).mean() < 0.8 * entropy(q).mean()
    even = torch.full((4, 5), 0.2)
    torch.testing.assert_close(target_distribution(even), even)
    big = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.9, 0.1]])  # the first cluster has more of the samples
    assert target_distribution(big)[0, 0] < 0.5


def test_the_target_of_a_cluster_without_samples_is_finite():
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.equal(target_distribution(q), q)
