"""A model that sorts tomorrow's data: encoder, clusterer and preparation in one file, and its use."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..console import progress
from ..contract import config as configs
from ..contract.assignment import Assignment
from ..contract.interfaces import Clusterer, Encoder
from ..contract.registry import Registry, installed
from ..data.data import Data
from ..data.preparation import Preparation
from ..errors import (
    BrokenPlugin,
    DeepclustError,
    InvalidData,
    InvalidSetting,
    OccupiedFolder,
    TrainingFailed,
    UnknownName,
)
from ..files import write_with
from ..toolbox.inference import assign, embed
from .boundary import check_shape, source
from .folder import RECORD, read_record

WEIGHTS = "model.safetensors"
HEADER = "deepclust"


@dataclass(frozen=True)
class Bundle:
    """A trained pair, ready for new data.

    centers: (K, D), what distances are measured to. record: names, settings, number of clusters and
    versions, as plain JSON values; ``data`` in it is the data set with the settings that belong to the model.
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

    @classmethod
    def trained(
        cls, encoder: Encoder, clusterer: Clusterer, data: Data, record: Mapping[str, Any], *, quiet: bool
    ) -> tuple[Self, Tensor, Assignment]:
        """The model that training came to, the codes (N, D) of the data it was trained on, and where these
        belong; raises as ``predict`` does."""
        record = {**record, "n_clusters": clusterer.n_clusters}
        model = cls(encoder, clusterer, torch.empty(0), data.preparation, record)
        try:
            z = model.embed(data, quiet=quiet)
        except InvalidData as error:
            raise TrainingFailed(
                "what was trained gives codes that are not finite for some samples: train it anew with a "
                "lower learning rate (encoder.lr, clusterer.lr), or with --precision float32."
            ) from error
        assignment = assign(clusterer, z, who=source(record, "clusterer"))
        return replace(model, centers=torch.from_numpy(assignment.centers).to(z)), z, assignment

    def embed(self, data: Data, *, quiet: bool = True) -> Tensor:
        """Codes (N, D) of prepared data.

        Raises InvalidData for codes that are not finite, BrokenPlugin for those of another shape.
        """
        with progress("embedding", len(data), "samples", quiet=quiet, least_seconds=2) as advance:
            z = embed(self.encoder, data, advance=advance)
        check_shape(z, self.encoder, len(data), source(self.record, "encoder"))
        check_codes(z, data.description)
        return z

    def assign(self, z: Tensor) -> Assignment:
        """Where codes z (N, D) belong."""
        return assign(self.clusterer, z, self.centers.to(z), who=source(self.record, "clusterer"))

    def predict(self, data: Data, *, quiet: bool = True) -> tuple[Tensor, Assignment]:
        """Codes (N, D) of prepared data, and where the samples belong.

        Raises as ``embed``, and BrokenPlugin where the clusterer says what none may.
        """
        z = self.embed(data, quiet=quiet)
        return z, self.assign(z)

    def inherited(self, name: str, config: type[Any]) -> dict[str, Any]:
        """The settings that new data take over from the run's where the data set ``name`` reads them.

        None for another data set than the run's. config: its Config.
        Raises BrokenPlugin where it has other settings now.
        """
        data = self.record.get("data", {})
        if data.get("name") != name:
            return {}
        settings = data.get("settings", {})
        without = configs.of_training(config, settings)
        found = {key: settings[key] for key in configs.inherited(config, settings) if key not in without}
        try:
            configs.build(config, found, "data")
        except (UnknownName, InvalidSetting) as error:
            made_with = self.record.get("versions", {}).get("plugins", {}).get(name, "another version")
            raise BrokenPlugin(
                f"the run's data were read by the data set '{name}' of {made_with}, whose settings are not "
                f"those of the version that is installed: {error}"
            ) from error
        return found

    def save(self, path: Path) -> None:
        """Write the weights with everything else in the header of one safetensors file.

        Raises BrokenPlugin where a part keeps anything but tensors.
        """
        write_with(path, self.write)

    def write(self, path: Path) -> None:
        """As ``save``, without putting the file in its place in one go."""
        from safetensors.torch import save_file

        tensors = {"centers": self.centers.cpu().contiguous().clone()}
        for part, model in (("encoder", self.encoder), ("clusterer", self.clusterer)):
            for name, value in model.state_dict().items():
                if not isinstance(value, Tensor):
                    raise BrokenPlugin(
                        f"{part} '{self.record[part]['name']}' has '{name}' in its state_dict, a "
                        f"{type(value).__name__}; only tensors can be kept."
                    )
                tensors[f"{part}.{name}"] = value.detach().cpu().contiguous().clone()
        record = {**self.record, "preparation": self.preparation.record()}
        save_file(tensors, path, metadata={HEADER: json.dumps(record)})

    def other_versions(self, registry: Registry | None = None) -> list[str]:
        """What is another version now than it was made with: deepclust, and the plugins of parts and data."""
        registry = registry or installed()
        versions = self.record.get("versions", {})
        pairs = {}
        if then := versions.get("deepclust"):
            pairs[f"deepclust {then}"] = f"deepclust {version('deepclust')}"
        names = [(kind, self.record[kind]["name"]) for kind in ("encoder", "clusterer")]
        if "data" in self.record:
            names.append(("dataset", self.record["data"]["name"]))
        for kind, name in names:
            try:
                entry = registry.find(kind, name)
            except (UnknownName, BrokenPlugin):  # of a data set: others may read what is new
                continue
            if then := versions.get("plugins", {}).get(name):
                pairs[then] = f"{entry.distribution} {entry.version}"
        return [f"{then}, now {now}" for then, now in pairs.items() if then != now]


def load(path: Path, device: torch.device, registry: Registry | None = None) -> Bundle:
    """The model of a run's folder, or of a .safetensors file of one.

    Raises DeepclustError where there is none or it is broken, UnknownName where a plugin that it
    was made with is not installed, BrokenPlugin where one has other settings or weights now.
    """
    registry = registry or installed()
    record, tensors = _read(_file_of(path), device)
    if "data" not in record and (found := _data_of(path, registry)) is not None:
        record["data"] = found
    try:
        preparation = Preparation.from_record(record.pop("preparation"))
    except TypeError as error:
        raise DeepclustError(f"'{path}' was written by another version of deepclust: {error}.") from error

    def make(kind: str, *arguments: Any) -> Any:
        name, settings = record[kind]["name"], record[kind]["settings"]
        made_with = record.get("versions", {}).get("plugins", {}).get(name, "another version")
        try:
            cls = registry.load(kind, name)
        except UnknownName as error:
            raise UnknownName(f"'{path}' was made with {kind} '{name}' of {made_with}: {error}") from error
        try:
            config = configs.build(cls.Config, settings, kind, registry)
        except (UnknownName, InvalidSetting) as error:
            raise BrokenPlugin(
                f"'{path}' was made with {kind} '{name}' of {made_with}, whose settings are not those of "
                f"the version that is installed: {error}"
            ) from error
        model = cls(config, *arguments).to(device)
        try:
            return _restore(model, kind, tensors).eval()
        except RuntimeError as error:
            raise BrokenPlugin(
                f"{kind} '{name}' does not fit the weights in '{path}', which were made with {made_with}: "
                f"{' '.join(str(error).split())}"
            ) from error

    encoder = make("encoder", preparation.shape)
    return Bundle(
        encoder,
        make("clusterer", record["n_clusters"], encoder.latent_dim),
        tensors["centers"],
        preparation,
        record,
    )


def _file_of(path: Path) -> Path:
    """The model's file, from a finished run's folder or from itself."""
    if not path.is_dir():
        return path
    try:
        record = read_record(path)
    except OccupiedFolder as error:
        raise DeepclustError(f"'{path / RECORD}' is broken; name '{path / WEIGHTS}' instead.") from error
    if record is None:
        raise DeepclustError(f"'{path}' holds no run of deepclust ({RECORD} is not there).")
    if record.get("status") != "finished":
        again = shlex.join(["deepclust", *record.get("command", ["run"])])
        raise DeepclustError(f"the run in '{path}' is not finished; give its command again: {again}")
    return path / WEIGHTS


def _data_of(path: Path, registry: Registry) -> dict[str, Any] | None:
    """What a model's record says of its data, from the folder of a run that is older than that."""
    data = (read_record(path) or {}).get("data", {}) if path.is_dir() else {}
    try:
        name, settings = data["name"], data["settings"]
        names = configs.inherited(registry.load("dataset", name).Config, settings)
        return {"name": name, "settings": {key: settings[key] for key in names}}
    except (KeyError, UnknownName, BrokenPlugin):  # they were in memory, or nothing here can read such
        return None


def _read(file: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header's record and the tensors, of which none is missing."""
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        raise DeepclustError(f"there is no model at '{file}'; name the folder of a finished run.")
    try:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            header = (opened.metadata() or {}).get(HEADER)
            if header is None:
                raise DeepclustError(f"'{file}' is no model that deepclust wrote.")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DeepclustError(
            f"'{file}' is broken or no .safetensors file ({error}); name the folder of a finished run, "
            f"or a .safetensors file that `deepclust export` wrote."
        ) from error
    try:
        record = json.loads(header)
        absent = {"preparation", "encoder", "clusterer", "n_clusters"} - set(record)
    except (ValueError, TypeError) as error:
        raise DeepclustError(f"the header of '{file}' is broken: {error}.") from error
    if absent or "centers" not in tensors:
        raise DeepclustError(
            f"'{file}' lacks {', '.join(sorted(absent)) or 'centers'}; it is no whole model."
        )
    return record, tensors


def _restore(model: Any, part: str, tensors: Mapping[str, Tensor]) -> Any:
    """Load a part's tensors, also those whose shape or type only training knew.

    Raises RuntimeError where one is missing or unknown.
    """
    state = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(owner)
        except AttributeError:
            continue  # load_state_dict says it
        for known in (module._parameters, module._buffers):
            there = known.get(leaf)
            if leaf in known and (there is None or (there.shape, there.dtype) != (value.shape, value.dtype)):
                empty = torch.empty_like(value)
                is_parameter = known is module._parameters
                known[leaf] = nn.Parameter(empty, empty.is_floating_point()) if is_parameter else empty
    model.load_state_dict(state)
    return model


def check_codes(z: Tensor, of: str) -> None:
    """Raise InvalidData for codes z (N, D) that are not finite, of what samples being in ``of``."""
    bad = torch.cat([(~torch.isfinite(rows)).any(dim=1) for rows in torch.split(z, 65536)])
    if count := int(bad.sum()):
        raise InvalidData(
            f"{of}: the codes of {count:,} of {len(z):,} samples are not finite, first those of sample "
            f"{int(bad.nonzero()[0]):,}; are the samples on the scale of the training?"
        )


def check_fits(bundle: Bundle, data: Data) -> Data:
    """``data`` where the bundle's encoder takes them.

    Raises InvalidData for data without samples, of another shape, or with values that are not finite.
    """
    if data.shape != bundle.preparation.shape:
        bundle.preparation.check(data.shape, data.preparation.dtype, 0.0, data.description)
    if len(data) == 0:
        raise InvalidData(f"{data.description}: there are no samples.")
    data.check_finite()
    return data if data.prepared == bundle.preparation else data.prepared_as(bundle.preparation)
