"""A model that sorts tomorrow's data: encoder, clusterer and preparation in one file, and its use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import config as configs
from .data import Data
from .errors import BrokenPlugin, DeepclustError, InvalidData
from .files import write_with
from .folder import RECORD, read_record
from .inference import assign, distances, embed
from .interfaces import Clusterer, Encoder
from .preparation import Preparation
from .registry import Registry, installed
from .results import Placed, placed

WEIGHTS = "model.safetensors"
HEADER = "deepclust"


@dataclass(frozen=True)
class Bundle:
    """A trained pair, ready for new data.

    centers: (K, D), what distances are measured to. record: names, settings, number of clusters and
    versions, as plain JSON values.
    """

    encoder: Encoder
    clusterer: Clusterer
    centers: Tensor
    preparation: Preparation
    record: Mapping[str, Any]

    @property
    def n_clusters(self) -> int:
        """K."""
        return int(self.record["n_clusters"])

    def predict(self, data: Data) -> tuple[Tensor, Placed]:
        """Codes (N, D) of prepared data, and where the samples belong."""
        z = embed(self.encoder, data)
        assignment = assign(self.clusterer, z)
        return z, placed(assignment, distances(z, assignment.labels, self.centers))

    def save(self, path: Path) -> None:
        """Write the weights with everything else in the header of one safetensors file."""
        from safetensors.torch import save_file

        tensors = {
            f"{part}.{name}": value.detach().cpu().contiguous().clone()
            for part, model in (("encoder", self.encoder), ("clusterer", self.clusterer))
            for name, value in model.state_dict().items()
        }
        tensors["centers"] = self.centers.cpu().contiguous().clone()
        record = {**self.record, "preparation": self.preparation.record()}
        header = {HEADER: json.dumps(record)}
        write_with(path, lambda temporary: save_file(tensors, temporary, metadata=header))


def load(path: Path, device: torch.device, registry: Registry | None = None) -> Bundle:
    """The model of a run's folder, or of a .safetensors file of one.

    Raises DeepclustError where there is none or it is broken, UnknownName where a plugin that it
    was made with is not installed.
    """
    registry = registry or installed()
    file = path
    if path.is_dir():
        record = read_record(path)
        if record is None:
            raise DeepclustError(f"'{path}' holds no run of deepclust ({RECORD} is not there).")
        if record.get("status") != "finished":
            raise DeepclustError(
                f"the run in '{path}' is not finished; give its command again: "
                f"deepclust {' '.join(record.get('command', ['run', '...']))}"
            )
        file = path / WEIGHTS
    record, tensors = _read(file, device)
    preparation = Preparation.from_record(record.pop("preparation"))

    def make(kind: str, argument: Any) -> Any:
        cls = registry.load(kind, record[kind]["name"])
        model = cls(configs.build(cls.Config, record[kind]["settings"], kind), argument)
        return _restore(model.to(device), kind, tensors, record).eval()

    return Bundle(
        make("encoder", preparation.shape),
        make("clusterer", record["n_clusters"]),
        tensors["centers"],
        preparation,
        record,
    )


def _read(file: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        raise DeepclustError(f"there is no model at '{file}'; give the folder of a finished run.")
    try:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            header = opened.metadata() or {}
            if HEADER not in header:
                raise DeepclustError(f"'{file}' is no model that deepclust wrote.")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DeepclustError(f"the model '{file}' cannot be read: {error}; run it again.") from error
    return json.loads(header[HEADER]), tensors


def _restore(model: Any, part: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Any:
    """Load a part's tensors, also those whose shape only training knew."""
    state = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(owner)
        except AttributeError:
            continue  # load_state_dict says it
        known = getattr(module, leaf, None)
        if isinstance(known, Tensor) and known.shape != value.shape:
            empty = torch.empty_like(value)
            setattr(module, leaf, nn.Parameter(empty) if isinstance(known, nn.Parameter) else empty)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        made_with = record.get("versions", {}).get("plugins", {}).get(record[part]["name"], "another version")
        raise BrokenPlugin(
            f"{part} '{record[part]['name']}' does not fit its saved weights, which were made with "
            f"{made_with}: {reason}"
        ) from error
    return model


def check_fits(bundle: Bundle, data: Data) -> Data:
    """``data`` where the bundle's encoder takes them.

    Raises InvalidData for data without samples, of another shape, or with values that are not finite.
    """
    if data.shape != bundle.preparation.shape:
        bundle.preparation.check(data.shape, data.preparation.dtype, 0.0, data.description)
    if len(data) == 0:
        raise InvalidData(f"{data.description}: there are no samples.")
    data.check_finite()
    return replace(data, prepared=bundle.preparation)
