"""K-means in torch: greedy k-means++ and Lloyd's iteration, all restarts advancing together.

A squared distance is |x|^2 - 2 x.c + |c|^2, one matrix product for all restarts. That loses digits
where |x| is large beside the distances, so the data are centred first, and the values handed back
(inertia, the distances of `assign`) are summed from the differences themselves.

`memory_bytes` bounds the arrays made anew for each chunk of samples (scores, masks, differences),
a chunk being one sample at least. Beside them stay a centred copy of x (N, D) unless x may be
overwritten, per restart a label and a distance of each sample (R, N), and on the CPU 2^18 numbers
gathered from moving samples.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY_BYTES = 256 * 2**20
CACHE_ELEMENTS = 2**18  # the CPU works on blocks of this many scores (1 MiB of float32),
MIN_ROWS = 512  # and of this many samples: products over fewer are slow


@contextmanager
def _exact_products() -> Iterator[None]:
    """Keep autograd, autocast and reduced precision (TF32, bf16) out, whatever the caller set."""
    backends = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]  # made at import
    )
    before = [backend.fp32_precision for backend in backends]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda", "mps", "xpu"):
            stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision


@dataclass(frozen=True)
class KMeansResult:
    """The best of all restarts: centers (K, D), labels (N,) int64, inertia, centre updates made."""

    centers: Tensor
    labels: Tensor
    inertia: float
    n_iter: int


@_exact_products()
def kmeans(
    x: Tensor,
    n_clusters: int,
    *,
    n_init: int = 20,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    overwrite: bool = False,
) -> KMeansResult:
    """Cluster x (N, D) into n_clusters and keep the restart with the least inertia.

    A restart ends when no label changes, when its centres move (squared, summed) by at most tol
    times the mean variance of the columns of x, or after max_iter updates. Labels name the nearest
    of the centres returned, bar rounding. overwrite: whether x may be centred in its place. Equal
    seeds give equal results on one machine. Raises ValueError for data that are not a finite (N, D)
    float32 or float64 tensor, for n_clusters outside 1..N and for n_init or max_iter below 1.
    """
    _check(x)
    if not 1 <= n_clusters <= len(x):
        raise ValueError(
            f"k-means was asked for {n_clusters} clusters of {len(x)} samples; "
            f"choose n_clusters between 1 and {len(x)}"
        )
    if n_init < 1 or max_iter < 1:
        raise ValueError(f"k-means got n_init={n_init}, max_iter={max_iter}; give 1 or more")
    mean = x.mean(0)  # (D,)
    x = (x.sub_(mean) if overwrite else x - mean).contiguous()
    tol *= _row_norms(x, memory_bytes).mean(dtype=_wide(x)).item() / x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    starts = kmeans_plusplus(x, n_clusters, n_init, generator, memory_bytes)
    centers, labels, inertias, n_iters = lloyd(x, starts, max_iter, tol, memory_bytes)
    best = int(inertias.argmin())
    distances = _distances(x, centers[best], labels[best], memory_bytes)
    inertia = distances.sum(dtype=_wide(x)).item()
    return KMeansResult(centers[best] + mean, labels[best].long(), inertia, n_iters[best])


@_exact_products()
def assign(x: Tensor, centers: Tensor, memory_bytes: int = MEMORY_BYTES) -> tuple[Tensor, Tensor]:
    """Find the nearest of centers (K, D) for each row of x: labels (N,), squared distances (N,).

    Raises ValueError where the two do not fit.
    """
    _check(x)
    _check(centers)
    if x.shape[1] != centers.shape[1] or x.dtype != centers.dtype:
        raise ValueError(
            f"assign got {_words(x)} and centres in {_words(centers)}; "
            "give both the same number of columns and one dtype"
        )
    mean = centers.mean(0)
    centers = centers - mean  # (K, D)
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    nearest = _nearest(centers[None])
    for chunk in _chunks(x, sum(centers.shape) + 5, memory_bytes):
        labels[chunk] = nearest(x[chunk] - mean)[0]
    return labels, _distances(x, centers, labels, memory_bytes, mean)


@_exact_products()
def kmeans_plusplus(
    x: Tensor,
    n_clusters: int,
    n_init: int,
    generator: torch.Generator,
    memory_bytes: int = MEMORY_BYTES,
) -> Tensor:
    """Choose starting centres (R, K, D) among the rows of x (N, D), for R = n_init restarts.

    k-means++ (Arthur and Vassilvitskii 2007, section 2.2) in the greedy form of scikit-learn: each
    step draws 2 + floor(ln K) samples in proportion to their squared distance from the centres so
    far, and keeps the one that leaves the least sum of them. x should be centred, as in `kmeans`;
    the generator must be on the CPU, so that every device sees the same draws.
    """
    n_trials = 2 + int(math.log(n_clusters))
    x_sq = _row_norms(x, memory_bytes)
    restarts = torch.arange(n_init, device=x.device)
    chosen = torch.randint(len(x), (n_init,), generator=generator).to(x.device)  # (R,)
    centers = x.new_empty(n_init, n_clusters, x.shape[1])
    closest = x.new_full((n_init, len(x)), torch.inf)
    for k in range(n_clusters):
        if k > 0:
            uniform = torch.rand(n_init, n_trials, generator=generator, dtype=torch.float64)
            drawn = _draw(closest, uniform, memory_bytes)  # (R, L)
            potential = x.new_zeros((n_init, n_trials), dtype=_wide(x))
            scores = _scores(x[drawn])
            for chunk in _chunks(x, drawn.numel(), memory_bytes):
                d = scores(x[chunk]).add_(x_sq[chunk])  # (R, L, B)
                torch.minimum(d, closest[:, None, chunk], out=d)
                potential += d.clamp_min_(0).sum(2)
            chosen = drawn.gather(1, potential.argmin(1, keepdim=True))[:, 0]
        centers[:, k] = x[chosen]
        scores = _scores(x[chosen][:, None])
        for chunk in _chunks(x, n_init, memory_bytes):
            d = scores(x[chunk]).add_(x_sq[chunk]).clamp_min_(0)[:, 0]  # (R, B)
            closest[:, chunk] = torch.minimum(closest[:, chunk], d)
        closest[restarts, chosen] = 0  # rounding may have left a little
    return centers


@_exact_products()
def lloyd(
    x: Tensor, centers: Tensor, max_iter: int, tol: float, memory_bytes: int = MEMORY_BYTES
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Improve centers (R, K, D) until each restart converges (Lloyd 1982), x (N, D) being centred.

    Returns centres (R, K, D), labels (R, N) int32, inertias (R,) and each restart's updates. tol is
    absolute: the squared shift, summed over the centres, that ends a restart. A cluster that lost
    all its samples takes the sample farthest from its centre, as in scikit-learn. The sums behind
    the centres persist, in float64; only samples that change cluster are taken out and added.
    """
    n_restarts, n_clusters, dim = centers.shape
    move = _move_rows if x.device.type == "cpu" else _move_matrix
    x_sq = _row_norms(x, memory_bytes)
    resolution = torch.finfo(x.dtype).eps * x_sq.max()  # scores tell no smaller distances apart
    total = x_sq.sum(dtype=_wide(x))
    # Every sample starts in cluster K, which is no cluster; its sum is never read.
    labels = torch.full((n_restarts, len(x)), n_clusters, dtype=torch.int32, device=x.device)
    sums = x.new_zeros((n_restarts, n_clusters + 1, dim), dtype=_wide(x))
    counts = torch.zeros((n_restarts, n_clusters + 1), dtype=torch.int64, device=x.device)
    shift = x.new_full((n_restarts,), torch.inf)
    active = list(range(n_restarts))
    out_centers, out_labels = torch.empty_like(centers), torch.empty_like(labels)
    inertias, n_iters = total.new_empty(n_restarts), [0] * n_restarts
    for iteration in range(max_iter + 1):
        nearest = _nearest(centers)
        settled = torch.ones(len(active), dtype=torch.bool, device=x.device)
        for chunk in _chunks(x, len(active) * (n_clusters + 5), memory_bytes):
            rows, old, new = x[chunk], labels[:, chunk], nearest(x[chunk])
            settled &= ~move(sums, counts, rows, old, new)
            labels[:, chunk] = new
        settled |= shift <= tol
        hollow = (counts[:, :-1] == 0).any(1)
        ended, empties = torch.stack([settled, hollow]).tolist()  # the iteration's one wait
        if any(ended) or iteration == max_iter:
            wide, sizes = centers.to(sums.dtype), counts[:, :-1]
            spread = sizes * wide.square().sum(2) - 2 * (wide * sums[:, :-1]).sum(2)  # (R, K)
            kept = []
            for row, restart in enumerate(active):
                if ended[row] or iteration == max_iter:
                    out_centers[restart], out_labels[restart] = centers[row], labels[row]
                    inertias[restart] = total + spread[row].sum()
                    n_iters[restart] = iteration
                else:
                    kept.append(row)
            if not kept:
                break
            active, empties = [active[row] for row in kept], [empties[row] for row in kept]
            centers, labels, sums, counts = centers[kept], labels[kept], sums[kept], counts[kept]
        for row in (row for row, has_empty in enumerate(empties) if has_empty):
            distances = _distances(x, centers[row], labels[row], memory_bytes)
            _fill_empty(sums[row], counts[row], labels[row], x, distances, resolution)
        sizes = counts[:, :-1, None]
        means = (sums[:, :-1] / sizes.clamp_min(1)).to(x.dtype)
        before, centers = centers, torch.where(sizes > 0, means, centers)
        shift = (centers - before).square().sum((1, 2))
    return out_centers, out_labels, inertias, n_iters


def _fill_empty(
    sums: Tensor, counts: Tensor, labels: Tensor, x: Tensor, distances: Tensor, resolution: Tensor
) -> None:
    """Give each empty cluster of one restart the farthest sample, never another's only one."""
    for empty in (counts[:-1] == 0).nonzero()[:, 0].tolist():
        far = int((distances * (counts[labels] > 1)).argmax())
        if distances[far] <= resolution or counts[labels[far]] <= 1:
            return  # fewer distinct samples than clusters: the rest keep their centres
        for cluster, sign in ((int(labels[far]), -1), (empty, 1)):
            sums[cluster] += sign * x[far]
            counts[cluster] += sign
        labels[far], distances[far] = empty, 0


def _move_rows(sums: Tensor, counts: Tensor, rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Carry samples from their old cluster's sum to their new one's; tell which restarts did (R,).

    Row by row, in order, as only the CPU does it.
    """
    moved = new != old  # (R, B)
    for which in torch.split(moved.nonzero(), max(1, CACHE_ELEMENTS // rows.shape[1])):
        restart, sample = which.unbind(1)
        taken = rows[sample].to(sums.dtype)
        one = counts.new_ones(len(sample))
        for labels, sign in ((old, -1), (new, 1)):
            bins = labels[restart, sample].add_(restart, alpha=sums.shape[1])
            sums.view(-1, sums.shape[2]).index_add_(0, bins, taken, alpha=sign)
            counts.view(-1).index_add_(0, bins, one, alpha=sign)
    return moved.any(1)


def _move_matrix(sums: Tensor, counts: Tensor, rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Do what _move_rows does by one product with a matrix of 1, 0 and -1, always in one order."""
    bins = torch.arange(sums.shape[1], device=rows.device)[:, None]
    sign = (new[:, None] == bins).to(rows.dtype)  # (R, K + 1, B)
    sign -= (old[:, None] == bins).to(rows.dtype)
    sums += (sign.flatten(0, 1) @ rows).view(sums.shape)
    counts += sign.sum(2).long()
    return (new != old).any(1)


def _scores(centers: Tensor) -> Callable[[Tensor], Tensor]:
    """Make the function from rows (B, D) to |c|^2 - 2 x.c (R, K, B), which its next call reuses."""
    flat = centers.flatten(0, 1)  # (R * K, D)
    offset, factor = flat.square().sum(1, keepdim=True), -2 * flat
    buffer = flat.new_empty(0)

    def scores(rows: Tensor) -> Tensor:
        nonlocal buffer
        size = len(flat) * len(rows)
        if buffer.numel() < size:
            buffer = rows.new_empty(size)
        out = buffer[:size].view(len(flat), len(rows))
        torch.addmm(offset, factor, rows.T, out=out)
        return out.view(*centers.shape[:2], len(rows))

    return scores


def _nearest(centers: Tensor) -> Callable[[Tensor], Tensor]:
    """Make the function from rows (B, D) to int32 labels (R, B), the nearest of centers (R, K, D).

    argmin on the CPU is scalar code, several times slower than these vector passes: the least score
    becomes a weight, larger for earlier centres, all others 0, and the greatest weight is read off.
    """
    scores, k = _scores(centers), centers.shape[1]
    weights = torch.arange(k, 0, -1, device=centers.device, dtype=centers.dtype)[:, None]

    def nearest(rows: Tensor) -> Tensor:
        s = scores(rows)  # (R, K, B)
        return k - s.eq_(s.amin(1, keepdim=True)).mul_(weights).amax(1).int()

    return nearest


def _draw(closest: Tensor, uniform: Tensor, memory_bytes: int) -> Tensor:
    """Draw samples (R, L) with the odds closest (R, N), by uniform numbers (R, L) in [0, 1).

    The odds are rounded to integers of sum 2^52, whose running sums are exact in any order.
    """
    drawn = []
    step = max(1, memory_bytes // (32 * closest.shape[1]))  # restarts at a time
    for odds, u in zip(torch.split(closest, step), torch.split(uniform, step), strict=True):
        share = odds / odds.sum(1, keepdim=True).clamp_min(torch.finfo(odds.dtype).tiny)
        running = share.mul_(2**52).long().cumsum(1)
        target = (u.to(odds.device, _wide(odds)) * running[:, -1:]).long()
        drawn.append(torch.searchsorted(running, target, right=True).clamp_max(odds.shape[1] - 1))
    return torch.cat(drawn)


def _distances(
    x: Tensor, centers: Tensor, labels: Tensor, memory_bytes: int, mean: Tensor | float = 0.0
) -> Tensor:
    """Squared distance (N,) of each row of x, less mean, from its own of centers (K, D)."""
    out = x.new_empty(len(x))
    for chunk in _chunks(x, x.shape[1], memory_bytes):
        out[chunk] = (x[chunk] - mean).sub_(centers[labels[chunk]]).square_().sum(1)
    return out


def _row_norms(x: Tensor, memory_bytes: int) -> Tensor:
    """Squared length (N,) of each row."""
    return torch.cat([x[c].square().sum(1) for c in _chunks(x, x.shape[1], memory_bytes)])


def _chunks(x: Tensor, width: int, memory_bytes: int) -> Iterator[slice]:
    """Slices of samples such that three numbers and four bytes times `width` fit the memory."""
    size = memory_bytes // ((3 * x.element_size() + 4) * width)
    if x.device.type == "cpu":
        size = min(size, max(MIN_ROWS, CACHE_ELEMENTS // width))
    size = min(max(1, size), len(x))
    return (slice(start, start + size) for start in range(0, len(x), size))


def _wide(x: Tensor) -> torch.dtype:
    """The dtype for long sums: float64, which only Apple's devices lack."""
    return x.dtype if x.device.type == "mps" else torch.float64


def _words(x: Tensor) -> str:
    return f"a {tuple(x.shape)} tensor of {str(x.dtype).removeprefix('torch.')}"


def _check(x: Tensor) -> None:
    """Raise ValueError for what is no (N, D) tensor of finite numbers with finite squares."""
    if x.dim() != 2 or 0 in x.shape or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"k-means got {_words(x)}; give it (N, D) samples, float32 or float64")
    if not torch.isfinite(_row_norms(x, MEMORY_BYTES)).all():
        n_bad = int((~torch.isfinite(x)).any(1).sum())
        what = f"NaN or infinity in {n_bad} of {len(x)} rows" if n_bad else "squares that overflow"
        raise ValueError(f"k-means got {what}; drop such rows or scale the values down")
