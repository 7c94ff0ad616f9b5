"""Weights that were trained elsewhere: read from a file, and fitted into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from ...core import InvalidSetting

SUFFIXES = (".pt", ".pth", ".safetensors")
ARCHITECTURES: dict[
    tuple[tuple[int, ...], bool], str
] = {  # torchvision's names, by sub-blocks of each stage and their kind
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def read(weights: str, blocks: tuple[int, ...], bottleneck: bool) -> dict[str, Tensor]:
    """The tensors of a file, or of one of torchvision's names for this network where its file is there.

    Raises InvalidSetting where there is no such file or name, or the file holds no tensors by name.
    """
    path = Path(weights).expanduser() if weights.endswith(SUFFIXES) else _cached(weights, blocks, bottleneck)
    if not path.is_file():
        raise InvalidSetting(f"encoder.weights is '{weights}', but there is no such file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no such file fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidSetting(f"'{path}' cannot be read as weights: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InvalidSetting(
            f"'{path}' holds no state_dict (tensors by name); save model.state_dict() there."
        )
    return dict(state)


def fit_in(network: nn.Module, given: Mapping[str, Tensor], weights: str) -> None:
    """Load torchvision's tensors, but its head, into all of a network but its head and its samples' scale.

    Raises InvalidSetting for names or shapes that are not the network's.
    """
    own = network.state_dict()
    wanted = {name: value for name, value in own.items() if not name.startswith(("head.", "inputs."))}
    given = {name: value for name, value in given.items() if not name.startswith(("fc.", "inputs."))}
    counters = {n: v for n, v in wanted.items() if n.endswith("num_batches_tracked")}  # old files lack them
    full = {**counters, **given}
    wrong = sorted(n for n in full.keys() & wanted.keys() if full[n].shape != wanted[n].shape)
    for what, names in (
        ("lacks", sorted(wanted.keys() - full.keys())),
        ("has the unknown", sorted(full.keys() - wanted.keys())),
    ):
        if names:
            raise InvalidSetting(_misfit(weights, f"it {what} '{names[0]}'", len(names)))
    if wrong:
        shapes = f"{tuple(full[wrong[0]].shape)} where {tuple(wanted[wrong[0]].shape)} is needed"
        raise InvalidSetting(_misfit(weights, f"its '{wrong[0]}' has the shape {shapes}", len(wrong)))
    network.load_state_dict({**own, **full})


def _misfit(weights: str, what: str, count: int) -> str:
    more = f" ({count} such tensors)" if count > 1 else ""
    return (
        f"the weights '{weights}' do not fit this network: {what}{more}; set the encoder's blocks, "
        "bottleneck, width and stem (large for torchvision's) as they were trained, and give images of as "
        "many channels."
    )


def _cached(name: str, blocks: tuple[int, ...], bottleneck: bool) -> Path:
    """The file of one of torchvision's names in torch's cache."""
    from torchvision.models import get_model_weights

    architecture = ARCHITECTURES.get((blocks, bottleneck))
    known = {entry.name: entry for entry in get_model_weights(architecture)} if architecture else {}
    if name not in known:
        there_is = (
            f"of {architecture} there is: {', '.join(known)}" if known else "torchvision has no such network"
        )
        raise InvalidSetting(
            f"encoder.weights is '{name}', but it must be a {', '.join(SUFFIXES)} file or one of "
            f"torchvision's names; {there_is}."
        )
    url = known[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        raise InvalidSetting(
            f"encoder.weights is '{name}', whose file is not on this machine, and nothing is downloaded "
            f"here: put {url} at '{path}'."
        )
    return path
