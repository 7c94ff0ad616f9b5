"""A finished model as one file for other programs, checked against predict before it is kept."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.console import phase
from ...core.contract import config as configs
from ...core.contract.interfaces import Storage
from ...core.contract.registry import Registry, installed
from ...core.errors import DeepclustError
from ...core.files import check_new_file, write_with
from ...core.run import bundle as bundles
from ...core.run.bundle import Bundle, check_codes
from ...core.run.folder import read_record
from ...core.run.opening import open_model
from ...core.toolbox.inference import evaluating
from ...core.words import counted

ENDINGS = (".safetensors", ".pt2", ".onnx")
METADATA = "deepclust.json"  # the extra file of a .pt2; an .onnx has the property "deepclust"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SIZES = (1, 2, 7)  # batches that a file must take
REAL = 256  # samples of the run's own data that it is tried on
CODE_TOLERANCE = 1e-4  # of codes, relative to the largest one or 1
Q_TOLERANCE = 1e-3  # of soft assignments; labels are equal where the two largest differ by twice that

Outputs = tuple[Tensor, Tensor, Tensor]  # labels (B,), q (B, K), z (B, D)

Exported = Callable[[Tensor], Outputs]


class Model(nn.Module):
    """Encoder and clusterer as one: samples (B, *shape) to labels (B,), q (B, K) and codes (B, D)."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.encoder, self.clusterer = bundle.encoder, bundle.clusterer

    def forward(self, x: Tensor) -> Outputs:
        z = self.encoder(x)
        return self.clusterer.predict(z), self.clusterer(z), z


def export(
    model: Path, file: Path, storage: Storage, *, overwrite: bool = False, registry: Registry | None = None
) -> str:
    """Write the model of a run to ``file``, whose ending says how; what it was checked on, in words.

    storage: where the run's data set is looked for, to check on samples of it.
    Raises DeepclustError where that cannot be, and where the file's answers are not those of predict;
    nothing is left then.
    """
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise DeepclustError(
            f"'{file}' ends in '{file.suffix}'; a model is exported to {', '.join(ENDINGS)}."
        )
    check_new_file(file, overwrite=overwrite)
    if ending == ".onnx":
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise DeepclustError(
                f".onnx needs {', '.join(missing)}, not installed here: pip install 'deepclust[onnx]'"
            )
    bundle = open_model(model, "cpu", registry)
    if file.exists() and model.is_file() and file.samefile(model):
        raise DeepclustError(f"'{file}' is the model itself; name another file.")
    with phase("reading the run's data"):
        real = _real_samples(model, bundle, storage, registry)
    found = ""

    def save(path: Path) -> None:
        nonlocal found
        if ending == ".safetensors":
            bundle.write(path)
            exported: Exported = Model(bundles.load(path, torch.device("cpu"), registry)).eval()
        elif ending == ".pt2":
            _write_pt2(bundle, path)
            exported = _read_pt2(path)
        else:
            _write_onnx(bundle, path)
            exported = _read_onnx(path)
        found = _check(bundle, exported, real, ending)

    with phase("exporting"):
        try:
            write_with(file, save)
        except OSError as error:
            raise DeepclustError(f"cannot write '{file}': {error.strerror or error}.") from error
    return found


def describe(bundle: Bundle) -> dict[str, Any]:
    """What a file says of itself: versions, preparation, names, and its input and outputs."""
    preparation = bundle.preparation
    shape = ", ".join(map(str, preparation.shape))
    scale = ", bytes divided by 255" if preparation.dtype == "uint8" else ""
    if preparation.source is not None and preparation.dtype != "uint8":
        scale += ", less preparation.source[0] and divided by what is between its two values, within 0 to 1"
    if preparation.mean is not None:
        scale += ", each column less preparation.mean and divided by preparation.std"
    if preparation.limit is not None:
        scale += f", values beyond {preparation.limit:g} as {preparation.limit:g}"
    return {
        **bundle.record,
        "deepclust": version("deepclust"),
        "preparation": preparation.record(),
        "input": {"x": f"float32 (batch, {shape}){scale}"},
        "outputs": {
            "labels": "int64 (batch,), clusters from 0"
            + (", -1 for noise" if bundle.clusterer.noise else ""),
            "q": f"float32 (batch, {bundle.n_clusters}), soft assignments, rows that sum to 1",
            "z": f"float32 (batch, {bundle.encoder.latent_dim}), codes",
        },
    }


def _trace(bundle: Bundle) -> torch.export.ExportedProgram:
    """The model as a graph for any number of samples.

    Raises DeepclustError where a part does what no graph can hold.
    """
    model = Model(bundle).eval()
    example = torch.zeros(3, *bundle.preparation.shape)
    shapes = {"x": {0: torch.export.Dim("batch")}}
    try:
        with torch.no_grad(), _silence():
            program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    except Exception as error:  # a plugin's forward may do anything
        raise _untraceable(bundle, error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine
    return program


def _untraceable(bundle: Bundle, error: Exception) -> DeepclustError:
    encoder, clusterer = (bundle.record[kind]["name"] for kind in ("encoder", "clusterer"))
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return DeepclustError(
        f"encoder '{encoder}' with clusterer '{clusterer}' cannot be written as a graph "
        f"({type(error).__name__}: {reason}); export it to .safetensors, which deepclust reads."
    )


def _write_pt2(bundle: Bundle, path: Path) -> None:
    program = _trace(bundle)
    with path.open("wb") as file, _silence():
        torch.export.save(program, file, extra_files={METADATA: json.dumps(describe(bundle))})


def _read_pt2(path: Path) -> Exported:
    with path.open("rb") as file, _silence():
        model: Exported = torch.export.load(file).module()
    return model


def _write_onnx(bundle: Bundle, path: Path) -> None:
    program = _trace(bundle)
    names = ["labels", "q", "z"]
    try:
        with torch.no_grad(), _silence():
            written = torch.onnx.export(
                program, input_names=["x"], output_names=names, dynamo=True,
                dynamic_shapes={"x": {0: "batch"}},
            )  # fmt: skip
            assert written is not None
            for node in written.model.graph:
                node.metadata_props.clear()
            for value in (*written.model.graph.inputs, *written.model.graph.outputs):
                value.metadata_props.clear()
            written.model.metadata_props["deepclust"] = json.dumps(describe(bundle))
            written.save(str(path), external_data=False)
    except OSError:
        raise
    except Exception as error:  # the exporter has many
        raise _untraceable(bundle, error) from error


def _read_onnx(path: Path) -> Exported:
    import onnxruntime  # type: ignore[import-untyped]

    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, with no common one
        raise DeepclustError(f"onnxruntime does not take the model: {error}") from error

    def call(x: Tensor) -> Outputs:
        labels, q, z = session.run(["labels", "q", "z"], {"x": x.numpy()})
        return torch.from_numpy(labels), torch.from_numpy(q), torch.from_numpy(z)

    return call


def _check(bundle: Bundle, exported: Exported, real: Tensor | None, ending: str) -> str:
    """What was compared, in words.

    Raises DeepclustError where labels, q or z are not what predict says of the same samples.
    """
    model = Model(bundle)
    images = bundle.preparation.dtype == "uint8" or len(bundle.preparation.shape) == 3
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if images else torch.randn
    batches = [draw(size, *bundle.preparation.shape, generator=generator) for size in SIZES]
    batches += [real] if real is not None else []
    largest, apart = 0.0, 0
    with evaluating(model):
        for x in batches:
            labels, q, z = model(x)
            check_codes(z, "random samples" if x is not real else "the run's own samples")
            try:
                got_labels, got_q, got_z = exported(x)
            except Exception as error:  # of the format's own runtime
                reason = " ".join(str(error).split())
                raise DeepclustError(
                    f"the exported {ending} fails on a batch of {counted(len(x), 'sample')}, so it is not "
                    f"kept: {reason}"
                ) from error
            top = q.topk(min(2, q.shape[1]), dim=1).values
            clear = top[:, 0] - top[:, -1] > 2 * Q_TOLERANCE
            faults = {
                "z": _differs(got_z, z, CODE_TOLERANCE * max(1.0, float(z.abs().max()))),
                "q": _differs(got_q, q, Q_TOLERANCE),
                "labels": got_labels.dtype != torch.int64
                or got_labels.shape != labels.shape
                or not torch.equal(got_labels[clear], labels[clear]),
            }
            wrong = [name for name, fault in faults.items() if fault]
            if wrong:
                raise DeepclustError(
                    f"the exported {ending} gives other {' and '.join(wrong)} than predict on a batch of "
                    f"{counted(len(x), 'sample')}, so it is not kept; .safetensors keeps the model as it is."
                )
            apart += int((got_labels != labels).sum())
            largest = max(largest, float((got_q - q).abs().max()))
    which = f"{sum(SIZES)} random samples" + (f" and {len(real)} of the run's" if real is not None else "")
    same = "the labels are" if not apart else f"all labels but {apart}, at ties, are"
    q_too = f"q differs by {largest:.0e} at most" if largest else "q is equal"
    return f"checked on {which}: {same} those of predict, {q_too}"


def _differs(got: Tensor, wanted: Tensor, tolerance: float) -> bool:
    if got.dtype != torch.float32 or got.shape != wanted.shape:
        return True
    return not bool(((got - wanted).abs() <= tolerance).all())  # NaN differs


def _real_samples(model: Path, bundle: Bundle, storage: Storage, registry: Registry | None) -> Tensor | None:
    """Some of the samples of the run in the folder ``model``, None where they are not to be had."""
    if not model.is_dir():
        return None
    data = (read_record(model) or {}).get("data", {})
    if "settings" not in data:  # they were in memory
        return None
    try:
        cls = (registry or installed()).load("dataset", data["name"])
        config = configs.build(cls.Config, data["settings"], "data")
        loaded = bundles.check_fits(bundle, cls(config).load_like(storage, bundle.preparation))
    except DeepclustError:
        return None  # moved or changed since
    index = torch.linspace(0, len(loaded) - 1, min(REAL, len(loaded))).long()
    return loaded.batch(index)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep back what the exporters say of their own affairs."""
    before = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
