"""DEC's numbers: the Student t assignment, its target, and their divergence in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """|z_i - u_j|^2 for codes (B, D) and centres (K, D), without a root or a (B, K, D) array."""
    products = z @ centers.T
    return (z.square().sum(1, keepdim=True) - 2 * products + centers.square().sum(1)).clamp_min(0)


def soft_assignment(z: Tensor, centers: Tensor, alpha: float = 1.0) -> Tensor:
    """q (B, K): Student t kernel between codes and centres, rows sum to 1 (Xie et al. 2016, eq. 1)."""
    return _log_q(squared_distances(z, centers), alpha).exp()


def target_distribution(q: Tensor) -> Tensor:
    """p (N, K) of the full set's q (N, K): squared, divided by cluster frequency (eq. 3)."""
    weight = q.square() / q.sum(0).clamp_min(torch.finfo(q.dtype).tiny)
    p: Tensor = weight / weight.sum(1, keepdim=True)
    return p


def kl_loss(z: Tensor, centers: Tensor, p: Tensor, alpha: float = 1.0) -> Tensor:
    """KL(P||Q) a sample, a 0-d tensor: eq. 2 divided by the batch's size, with eqs. 4 and 5 as gradient.

    z: (B, D). centers: (K, D). p: (B, K), a constant. Computed in at least float32, also under
    autocast.
    """
    with torch.autocast(z.device.type, enabled=False):
        wide = torch.promote_types(torch.promote_types(z.dtype, centers.dtype), torch.float32)
        loss: Tensor = StudentTKL.apply(z.to(wide), centers.to(wide), p.to(wide), alpha)
    return loss


class StudentTKL(Function):
    """The divergence of ``kl_loss`` as one node of the graph.

    Only its inputs are saved, so that its backward can itself be differentiated, transformed by
    torch.func and compiled.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, centers: Tensor, p: Tensor, alpha: float) -> Tensor:  # type: ignore[override]
        log_q = _log_q(squared_distances(z, centers), alpha)
        return (torch.xlogy(p, p) - p * log_q).sum() / z.shape[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, centers, p, alpha = inputs
        ctx.save_for_backward(z, centers, p)
        ctx.alpha = alpha

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        z, centers, p = ctx.saved_tensors
        alpha: float = ctx.alpha
        distances = squared_distances(z, centers)
        q = _log_q(distances, alpha).exp()
        # (a+1)/a (1 + d/a)^-1 (p - q): how hard centre j pulls sample i               # (B, K)
        pull = (alpha + 1) / alpha * (p - q) / (1 + distances / alpha)
        pull = grad / z.shape[0] * pull
        grad_z = grad_centers = None
        if ctx.needs_input_grad[0]:
            grad_z = pull.sum(1, keepdim=True) * z - pull @ centers  # (B, D), eq. 4
        if ctx.needs_input_grad[1]:
            grad_centers = pull.sum(0)[:, None] * centers - pull.T @ z  # (K, D), eq. 5
        return grad_z, grad_centers, None, None


def _log_q(distances: Tensor, alpha: float) -> Tensor:
    return torch.log_softmax(-(alpha + 1) / 2 * torch.log1p(distances / alpha), dim=1)
