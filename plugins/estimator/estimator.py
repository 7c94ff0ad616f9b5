"""A pair of encoder and clusterer as a scikit-learn estimator."""

from __future__ import annotations

import math
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ...core.contract import config as configs
from ...core.contract.interfaces import Encoder, Storage
from ...core.contract.registry import installed
from ...core.data.data import Data, arrange, kept_type, tensor_over, truth_of
from ...core.data.scaling import Scale, check_integers, scaled
from ...core.data.training_range import fitted
from ...core.errors import DeepclustError, DeepclustWarning, InvalidData, InvalidSetting, UnhealthyResult
from ...core.run import bundle as bundles
from ...core.run import scores as scored
from ...core.run.bundle import Bundle
from ...core.run.choice import choose
from ...core.run.device import choose_device
from ...core.run.folder import read_record
from ...core.run.pipeline import run
from ...core.run.plan import Choices, Request, parse_clusters, resolve
from ...core.run.results import EMBEDDING
from ...core.toolbox.inference import evaluating
from ...core.words import counted
from .global_state import kept

THROUGH = ("deepclust", "sklearn", "joblib", "contextlib")  # whose lines no warning points to
EVALUATORS = ("clustering",)
FITTED = (
    "_bundle", "labels_", "embedding_", "cluster_centers_", "n_clusters_",
    "n_features_in_", "feature_names_in_", "_n_features_out", "scores_", "summary_", "notices_",
    "healthy_",
)  # fmt: skip


class DeepClustering(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Deep clustering: an encoder maps samples to codes, a clusterer sorts these into clusters.

    Samples X are rows (n_samples, n_features), or images (n_samples, height, width), with channels
    last (n, h, w, c) where that axis is 1, 3 or 4 long, else first (n, c, h, w). uint8 stays as it is, and
    networks see it as 0 to 1; they see all other numbers as float32. Rows are scaled as ``deepclust run``
    scales those of a .npy file.

    Parameters
    ----------
    encoder, clusterer : str or class
        Names from ``deepclust list``; ``"auto"`` chooses by what the samples are. A class of your own, or its
        reference ``"FILE.py:Class"``. An encoder may also be an instance, ``MyEncoder(config, shape)``: one
        like it, with its weights to begin with, is trained, and it stays as it is.
    n_clusters : int or str
        A number; ``"auto"`` or ``"auto:2-30"`` to have it found from the codes.
    encoder_params, clusterer_params : dict or None
        Settings by name, as ``deepclust info NAME`` lists them.
    scale : {"auto", "standard", "none"}
        Of rows, not of images. auto: columns are centred and divided by one deviation, or each by its own
        where their units differ. standard: each by its own. none: as they are.
    epochs_scale : float
        Multiplies all training lengths.
    random_state : int, RandomState instance or None
        The seed; an int gives the same bits as ``deepclust run --seed`` with it on the same machine.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : {"auto", "float32", "bf16"}
        Of the training; codes and labels are float32.
    out : str, path or None
        A folder for the run with its log, tables and model; a fit that was stopped goes on there, one with
        other data or settings is refused. None: a temporary folder that is removed.
    verbose : bool
        Whether progress is shown on standard error.

    Attributes
    ----------
    labels_ : ndarray of int64, shape (n_samples,)
        The cluster of each sample, what ``predict`` says of it.
    embedding_ : ndarray of float32, shape (n_samples, n_features_out)
        The codes, what ``transform`` gives.
    cluster_centers_ : ndarray of float32, shape (n_clusters, n_features_out)
        A point among the codes for each cluster: the clusterer's, or the mean of its members.
    n_clusters_ : int
    scores_ : dict
        The scores by evaluator: ``scores_["clustering"]["silhouette"]``.
    summary_ : dict
        All that ``scores.json`` of a run holds: ``evaluators``, which is ``scores_``, ``protocol`` (what was
        trained on and scored), ``health``, ``seconds``, ``resumed``, and ``clusterer`` of one that chose by
        a loss of its own.
    notices_ : list of str
        What must not be missed; ``fit`` raises a DeepclustWarning for each.
    healthy_ : bool
        False where a notice says that the result is unhealthy: its warning is an UnhealthyResult.
    n_features_in_ : int
        Values in a sample.
    feature_names_in_ : ndarray of str
        Where X was a data frame whose columns have names.

    Each method may raise ValueError or TypeError, and DeepclustError for what only a run finds out.
    """

    def __init__(
        self,
        encoder: Any = "auto",
        clusterer: Any = "auto",
        n_clusters: int | str = 10,
        *,
        encoder_params: Mapping[str, Any] | None = None,
        clusterer_params: Mapping[str, Any] | None = None,
        scale: str = "auto",
        epochs_scale: float = 1.0,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "auto",
        out: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.clusterer = clusterer
        self.n_clusters = n_clusters
        self.encoder_params = encoder_params
        self.clusterer_params = clusterer_params
        self.scale = scale
        self.epochs_scale = epochs_scale
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.out = out
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X. y is not looked at, unless the encoder is one that learns from labels."""
        for name in FITTED:
            self.__dict__.pop(name, None)
        data = self._data(X, fitting=True)
        request = self._request()
        _check_count(request, len(data))
        request = choose(request, data, installed()).fill(request)
        if resolve(request, installed(), given=True, data=data).encoder.supervised:
            if y is None:
                raise InvalidData(f"encoder '{request.encoder}' learns from labels: give them as y.")
            check_consistent_length(X, y)
            data = replace(data, revealed=truth_of(np.asarray(np.asarray(y).tolist())))
        device = choose_device(request.device)
        with kept(device), _folder(self.out) as folder:
            start = self.encoder if isinstance(self.encoder, Encoder) else None
            outcome = run(request, Storage(Path()), folder, data=data, start=start, quiet=not self.verbose)
            self._take(bundles.load(folder, device))
            self.embedding_, self.labels_ = np.load(folder / EMBEDDING), outcome.labels
        self._score(outcome.summary)
        _warn(self.notices_, scored.reasons(outcome.summary))
        return self

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Train on X; ``labels_``."""
        return self.fit(X, y).labels_

    def predict(self, X: Any) -> np.ndarray:
        """The cluster of each sample, from 0; -1 for noise.  # (n_samples,)"""
        with self._ready(X) as data:
            return self._bundle.predict(data)[1].labels

    def transform(self, X: Any) -> np.ndarray:
        """The code of each sample.  # (n_samples, n_features_out)"""
        with self._ready(X) as data:
            return self._bundle.embed(data).cpu().numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """The soft assignment of each sample, in rows that sum to 1.  # (n_samples, n_clusters)"""
        with self._ready(X) as data, evaluating(clusterer := self._bundle.clusterer):
            codes = self._bundle.embed(data)
            return torch.cat([clusterer(rows) for rows in torch.split(codes, 65536)]).cpu().numpy()

    @classmethod
    def load(cls, run: str | Path, *, device: str = "auto") -> Self:
        """The fitted estimator that a finished run is, from its folder or its .safetensors file.

        labels_, embedding_, scores_ and summary_ are there where the folder is. Raises DeepclustError where
        there is no finished run.
        """
        path, chosen = Path(run).expanduser(), choose_device(device)
        with kept(chosen):
            bundle = bundles.load(path, chosen)
            record = read_record(path) or {}
            request, given = record.get("request", {}), bundle.record.get("data", {}).get("settings", {})
            encoder, clusterer = bundle.record["encoder"], bundle.record["clusterer"]
            estimator = cls(
                encoder["name"],
                clusterer["name"],
                request.get("clusters", bundle.n_clusters),
                encoder_params=encoder["settings"],
                clusterer_params=clusterer["settings"],
                scale=given.get("scale", "auto"),
                epochs_scale=record.get("epochs_scale", request.get("epochs_scale", 1.0)),
                random_state=request.get("seed"),
                device=device,
                precision=request.get("precision", "auto"),
            )
            estimator._take(bundle)
            preparation = bundle.preparation
            estimator.n_features_in_ = math.prod(preparation.shape)
            if preparation.columns is not None:
                estimator.feature_names_in_ = np.asarray(preparation.columns, dtype=object)
            if (path / EMBEDDING).exists():
                estimator.embedding_ = np.load(path / EMBEDDING)
                estimator.labels_ = bundle.assign(torch.from_numpy(estimator.embedding_).to(chosen)).labels
            if (path / scored.SCORES).exists():
                try:
                    estimator._score(scored.read(path / scored.SCORES))
                except ValueError as error:
                    raise InvalidData(
                        f"'{path / scored.SCORES}' cannot be read: {error}; the command of the run writes it "
                        "again, or remove it."
                    ) from error
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        """Everything, with the model as the bytes of its .safetensors file."""
        state = dict(super().__getstate__())
        if "_bundle" in state:
            with tempfile.TemporaryDirectory(prefix="deepclust-") as folder:
                file = Path(folder) / bundles.WEIGHTS
                self._bundle.write(file)
                state["_bundle"] = file.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was; the model is on ``device`` where this machine has it, else on the CPU."""
        super().__setstate__(state)
        for part in ("encoder", "clusterer"):  # the model names a class, which may have come with the pickle
            _reference(getattr(self, part), part)
        if "_bundle" in state:
            del self._bundle  # the bytes, until they are a model
            try:
                device = choose_device(self.device)
            except DeepclustError:
                device = torch.device("cpu")
            with kept(device), tempfile.TemporaryDirectory(prefix="deepclust-") as folder:
                file = Path(folder) / bundles.WEIGHTS
                file.write_bytes(state["_bundle"])
                self._take(bundles.load(file, device))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_bundle")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        return tags

    def _request(self) -> Request:
        """The parameters as a run's request; raises ValueError for what cannot be right."""
        clusters = _plain(self.n_clusters)
        if isinstance(clusters, bool) or not isinstance(clusters, (int, str)):
            raise InvalidSetting(f"n_clusters is {clusters!r}, but it must be a whole number or 'auto'.")
        parse_clusters(clusters)
        if isinstance(self.random_state, Integral):
            seed = int(self.random_state)
        else:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names = ("encoder", "clusterer", "device", "precision", "epochs_scale")
        values = {name: _plain(getattr(self, name)) for name in names}
        values |= {part: _reference(values[part], part) for part in ("encoder", "clusterer")}
        chosen = configs.build(Choices, {**values, "clusters": clusters, "seed": seed}, "DeepClustering")
        settings = {}
        for part in ("encoder", "clusterer"):
            given = getattr(self, f"{part}_params")
            if not isinstance(given, Mapping | None):
                raise InvalidSetting(
                    f"{part}_params is {given!r}, but it must be a dict of settings or None."
                )
            settings[part] = {key: _plain(value) for key, value in (given or {}).items()}
        if isinstance(self.encoder, Encoder):
            if settings["encoder"]:
                raise InvalidSetting("the encoder is made already: its settings are not encoder_params.")
            config = self.encoder.config
            settings["encoder"] = configs.to_dict(config) if is_dataclass(config) else {}
        return Request(**{**vars(chosen), "data": "X", "evaluators": EVALUATORS}, settings=settings)

    def _data(self, X: Any, *, fitting: bool) -> Data:
        """X as samples, and what it has been checked for: finite numbers, as in ``fit``."""
        least = 2 if fitting else 1
        if len(X.shape if hasattr(X, "shape") else np.asarray(X).shape) <= 2:
            x = validate_data(self, X, reset=fitting, dtype="numeric", order="C", ensure_min_samples=least)
        else:
            x = check_array(
                X, dtype="numeric", order="C", allow_nd=True, ensure_min_samples=least,
                estimator=self, input_name="X",
            )  # fmt: skip
            if x.ndim > 4:
                raise InvalidData(f"X has shape {x.shape}; rows (n, d) or images (n, h, w[, c]) are needed.")
            if fitting:
                self.n_features_in_ = math.prod(x.shape[1:])
        check_integers(x, "X")
        data = Data(
            arrange(tensor_over(x.astype(kept_type(x), copy=False))), f"X, {counted(len(x), 'sample')}"
        )
        if not fitting:
            data.check_finite()  # float32 holds less than float64
        return scaled(data, self._scale()) if fitting else self._like_fitted(data)

    def _like_fitted(self, data: Data) -> Data:
        """New samples as the model takes them; raises InvalidData for others than it was trained on."""
        wanted, given = self._bundle.preparation, data.preparation
        wanted.check(given.shape, wanted.dtype, 0.0, data.description)  # of shape first
        if given.dtype != wanted.dtype:
            raise InvalidData(
                f"{data.description}: they are {given.dtype}, but the model was trained on {wanted.dtype}, "
                "which means another scale; give them in that type, on the scale of the training."
            )
        return fitted(data, wanted)

    def _scale(self) -> Scale:
        for scale in get_args(Scale):
            if self.scale == scale:
                return cast(Scale, scale)
        raise InvalidSetting(f"scale is {self.scale!r}, but it must be one of: {', '.join(get_args(Scale))}.")

    def _take(self, bundle: Bundle) -> None:
        """Become what a trained model says."""
        self._bundle = replace(bundle, centers=bundle.centers.clone())  # else a view of a file that may go
        self.n_clusters_ = bundle.n_clusters
        self.cluster_centers_ = bundle.centers.cpu().numpy()
        self._n_features_out = self.cluster_centers_.shape[1]

    def _score(self, summary: dict[str, Any]) -> None:
        """Take what scores.json says."""
        self.summary_, self.scores_ = summary, summary[scored.EVALUATORS]
        self.notices_ = scored.notices(summary)
        self.healthy_ = not scored.reasons(summary)

    @contextmanager
    def _ready(self, X: Any) -> Iterator[Data]:
        """New samples on the model's device, and the process as a run computes."""
        check_is_fitted(self)
        data, device = self._data(X, fitting=False), self._bundle.centers.device
        _warn(data.notices)
        with kept(device):
            yield data.to(device)


def _reference(given: Any, part: str) -> Any:
    """The name of a component: of a class and of an encoder's instance that by which the class is found."""
    if isinstance(given, type):
        return installed().name_of(part, given)
    if part == "encoder" and isinstance(given, Encoder):
        return installed().name_of(part, type(given))
    if isinstance(given, torch.nn.Module):
        raise InvalidSetting(f"{part} is an instance of {type(given).__name__}; give the class.")
    return given


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays as Python's."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _warn(notices: Iterable[str], reasons: Iterable[str] = ()) -> None:
    """Raise a warning for each notice, at the line that called deepclust or scikit-learn for it."""
    level, frame, ill = 1, sys._getframe(), set(reasons)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in THROUGH:
        level, frame = level + 1, frame.f_back
    for text in notices:
        warnings.warn(text, UnhealthyResult if text in ill else DeepclustWarning, stacklevel=level)


def _check_count(request: Request, n_samples: int) -> None:
    """Raise InvalidData for fewer samples than clusters."""
    asked = parse_clusters(request.clusters)
    least = asked[0] if isinstance(asked, tuple) else asked
    if least is not None and n_samples < least:
        raise InvalidData(f"n_samples={n_samples} should be >= n_clusters={least}.")


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """The folder of a run: ``out``, or one that is gone afterwards."""
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="deepclust-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
