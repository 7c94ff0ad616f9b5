"""The number of clusters found without labels: right where it is plain, unsure where it is not."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

from deepclust.cli import main
from deepclust.core.data.data import Data
from deepclust.core.errors import DeepclustError
from deepclust.core.run.run import Run, gather_notices
from deepclust.core.run.settle import settle
from deepclust.plugins.silhouette import counter as counting
from deepclust.plugins.silhouette.counter import Silhouette, choose_count, silhouette


@pytest.fixture
def quick(monkeypatch):
    """Fewer repetitions, for tests of everything but the choice itself."""
    monkeypatch.setattr(counting, "REPETITIONS", 5)
    monkeypatch.setattr(counting, "REFERENCES", 2)


def blobs(k: int, seed: int, n: int = 600, dim: int = 6, std: float = 1.0) -> np.ndarray:
    centers = np.random.default_rng(seed).permutation(np.eye(16))[:k, :] * 12
    x = make_blobs(n, centers=centers, cluster_std=std, random_state=seed)[0]
    return x.astype(np.float32)


def choose(z, low, high, seed=0):
    found = choose_count(np.asarray(z, np.float32), low, high, seed, quiet=True)
    assert found.sure == (found.evidence["certainty"] != "not sure")
    given = {"n_clusters": found.n_clusters, "sure": found.sentence, "alternatives": found.alternatives}
    return SimpleNamespace(**given, **found.evidence)


@pytest.mark.parametrize(("k", "seed"), [(2, 0), (3, 1), (5, 2), (8, 3)])
def test_blobs_are_counted(k, seed, quick):
    found = choose(blobs(k, seed, n=900), 2, 10, seed)
    assert found.n_clusters == k
    assert (found.certainty, found.doubts, found.alternatives) == ("sure", [], [])
    assert found.sure.startswith(f"{k} clusters, sure: 5 of 5 repetitions chose it, the next best (")
    row = found.tried[k - 2]
    assert (row["n_clusters"], row["chosen"], row["lead"]) == (k, 5, 0)
    assert row["stability"] == pytest.approx(1)
    assert row["score"] > row["reference"] + 0.2


def test_many_samples_are_drawn_from(quick):
    z = blobs(4, 0, n=3 * counting.POOL)
    found = choose(z, 3, 5)
    assert (found.n_clusters, found.doubts) == (4, [])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["standard_normal", "uniform"])
@pytest.mark.parametrize("dim", [2, 8])
def test_data_without_clusters_are_not_sure(kind, dim, seed, quick):
    z = getattr(np.random.default_rng(seed), kind)(size=(700, dim))
    found = choose(z, 2, 6, seed)
    assert "without clusters" in found.doubts[0]
    assert f"{found.n_clusters} clusters, not sure: " in found.sure
    if dim == 8:
        assert all(row["stability"] < 0.5 for row in found.tried)


def test_what_was_tried_adds_up(quick):
    found = choose(blobs(3, 0, std=4.0), 2, 7)
    assert [r["n_clusters"] for r in found.tried] == [2, 3, 4, 5, 6, 7]
    assert sum(r["chosen"] for r in found.tried) == 5
    assert max(found.tried, key=lambda r: r["chosen"])["n_clusters"] == found.n_clusters
    for row in found.tried:
        assert -1 <= row["score"] <= 1
        assert -1 <= row["stability"] <= 1
        assert row["deviation"] >= 0
    assert "Rousseeuw" in found.criterion


def test_same_seed_same_count_and_another_seed_other_draws(quick):
    z = blobs(4, 0, std=5.0)
    state, threads = np.random.get_state()[1].copy(), torch.get_num_threads()
    first = choose(z, 2, 6, 7)
    assert choose(z.copy(), 2, 6, 7) == first
    assert choose(z, 2, 6, 8).tried != first.tried
    assert (np.random.get_state()[1] == state).all(), "the global generator is left alone"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_scale_place_and_direction_do_not_matter(factor, quick):
    z = blobs(5, 1, std=3.0)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    before, after = choose(z, 2, 7), choose((z + 3) @ turn * factor, 2, 7)
    assert after.n_clusters == before.n_clusters
    for a, b in zip(before.tried, after.tried, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=0.02)


def test_the_edge_of_the_range_is_said(quick):
    few = choose(blobs(6, 0), 2, 4)
    assert few.n_clusters == 4
    assert any("auto:2-8" in d for d in few.doubts)
    many = choose(blobs(3, 0), 5, 8)
    assert many.n_clusters == 5
    assert any("from auto:2" in d for d in many.doubts)
    assert choose(blobs(2, 0), 2, 4).doubts == [], "there are no fewer than 2"


def test_most_repetitions_decide_not_the_mean_score(monkeypatch):
    scores = np.array([[0.5, 0.6, 0.1], [0.5, 0.6, 0.1], [0.9, 0.2, 0.1]])
    labels = np.tile(np.arange(20) % 2, (3, 3, 1))
    monkeypatch.setattr(counting, "_repeat", lambda *_: (scores, labels))
    monkeypatch.setattr(counting, "_refer", lambda *_: np.array([[[0.1] * 3] * 2, [[0.3] * 3] * 2]))
    found = choose(blobs(3, 0, n=40), 4, 6)
    assert found.n_clusters == 5
    assert [r["chosen"] for r in found.tried] == [1, 2, 0]
    assert [r["score"] for r in found.tried] == pytest.approx([0.6333, 0.4667, 0.1], abs=1e-4)
    assert [r["reference"] for r in found.tried] == pytest.approx([0.3] * 3), "the higher of the two"


def test_leads_are_of_the_same_repetition(monkeypatch):
    scores = np.array([[0.2, 0.4, 0.1], [0.4, 0.6, 0.1], [0.9, 1.0, 0.7]])
    labels = np.tile(np.arange(20) % 2, (3, 3, 1))
    monkeypatch.setattr(counting, "_repeat", lambda *_: (scores, labels))
    monkeypatch.setattr(counting, "_refer", lambda *_: np.zeros((2, 1, 3)))
    rows = choose(np.random.default_rng(0).standard_normal((40, 3)), 4, 6).tried
    assert [r["lead"] for r in rows] == pytest.approx([0.5 / 3, 0, 1.1 / 3], abs=1e-4)
    assert [r["lead_deviation"] for r in rows] == pytest.approx([0.0577, 0, 0.1155], abs=1e-4)


def test_what_the_neighbour_graph_shows_is_chosen_and_the_silhouette_named(quick):
    """Three groups of three: the silhouette sees three, and nine are apart too."""
    corners = np.array([20 * np.eye(4)[i] + 4 * np.eye(4)[j] for i in range(3) for j in range(3)])
    z = make_blobs(900, centers=corners, cluster_std=0.7, random_state=0)[0]
    found = choose(z, 2, 10)
    assert (found.n_clusters, found.certainty) == (9, "not sure")
    assert 3 in found.alternatives
    assert "the silhouette prefers 3" in found.sure


@pytest.mark.parametrize("seed", range(3))
def test_blobs_that_run_into_each_other_are_not_sure(seed, quick):
    z = make_blobs(900, centers=np.array([[0, 0], [2.2, 0], [1, 2]]), random_state=seed)[0]
    assert choose(z, 2, 8, seed).certainty == "not sure"


def test_a_curve_in_one_piece_is_not_sure(quick):
    t = np.random.default_rng(0).uniform(0, np.pi, 900)
    z = np.stack([np.cos(t), 2 * np.sin(t)], axis=1) + np.random.default_rng(1).normal(0, 0.05, (900, 2))
    found = choose(z, 2, 8)
    assert (found.certainty, "the neighbour graph shows no number" in found.doubts) == ("not sure", True)


def test_duplicates_are_clusters_and_no_more_are_tried():
    z = np.repeat(np.eye(5, 3) + np.arange(5)[:, None], 40, axis=0)
    found = choose(z, 2, 30)
    assert found.n_clusters == 5
    assert found.tried[-1]["n_clusters"] == 5
    assert not any("most" in d for d in found.doubts), "there are no more different codes"


@pytest.mark.parametrize(
    ("z", "low", "reason"),
    [
        (np.zeros((50, 4)), 2, "all 50 samples are equal"),
        (np.full((50, 4), 1e6) + np.arange(200).reshape(50, 4) // 4 % 2 * 0.125, 2, "are equal"),
        (np.where(np.arange(50)[:, None] == 7, np.nan, np.eye(50, 4)), 2, "of 1 of 50 samples"),
        (np.where(np.arange(50)[:, None] < 9, np.inf, np.eye(50, 4)), 2, "of 9 of 50 samples"),
        (np.eye(7), 2, "8 samples"),
        (np.eye(40), 12, "from 40 samples"),
        (np.repeat(np.eye(3), 30, axis=0), 4, "3 different codes"),
    ],
)
def test_what_cannot_be_counted_is_one_sentence(z, low, reason):
    with pytest.raises(DeepclustError, match=reason):
        choose(z, low, 20)


def naive_silhouette(x, labels):
    values = []
    for i in range(len(x)):
        own = [np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if labels[j] == labels[i] and j != i]
        if not own:
            values.append(0.0)
            continue
        others = []
        for c in set(labels) - {labels[i]}:
            others.append(np.mean([np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if labels[j] == c]))
        a, b = np.mean(own), min(others)
        values.append((b - a) / max(a, b) if max(a, b) > 0 else 0.0)
    return np.mean(values)


@pytest.mark.parametrize("seed", range(4))
def test_silhouette_is_the_naive_one_and_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 3)).round(1)
    x[:5] = x[5:10]  # duplicates
    labels = rng.integers(0, 6, 40) * 2  # with gaps
    labels[0] = 99  # alone
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    assert silhouette(distances, labels) == pytest.approx(naive_silhouette(x, labels.tolist()))
    assert silhouette(distances, labels) == pytest.approx(silhouette_score(x, labels))


def test_silhouette_of_one_cluster_or_one_point_is_0():
    assert silhouette(np.ones((4, 4)) - np.eye(4), np.zeros(4, int)) == 0
    assert silhouette(np.zeros((6, 6)), np.array([0, 0, 0, 1, 1, 1])) == 0


def test_the_score_is_of_codes_that_kmeans_has_not_seen(quick, monkeypatch):
    halves = []

    def fit(x, tried, rng, advance):
        halves.append({row.tobytes() for row in x})
        return original_fit(x, tried, rng, advance)

    def score(models, held):
        assert not halves[-1] & {row.tobytes() for row in held}
        return original_score(models, held)

    original_fit, original_score = counting._fit, counting._score
    monkeypatch.setattr(counting, "_fit", fit)
    monkeypatch.setattr(counting, "_score", score)
    choose(blobs(3, 0), 2, 3)
    assert len(halves) == 5 + 2 * 2


class Identity(torch.nn.Module):
    """The samples as their own codes."""

    embedded = 0

    def forward(self, x):
        Identity.embedded += 1
        return x


@pytest.fixture
def settled(tmp_path, quick):
    """Calls settle on blobs, each time as the same command would."""
    data = Data(torch.from_numpy(blobs(3, 0)), "blobs")
    Identity.embedded = 0

    def call(quiet=True):
        return settle(Silhouette(None), Identity(), data, 2, 5, Run(tmp_path, seed=3, quiet=quiet))

    call.path = tmp_path / "clusters.json"
    return call


def test_settle_keeps_the_choice_with_its_range(settled, capsys):
    assert settled() == 3
    assert capsys.readouterr().err == ""
    kept = json.loads(settled.path.read_text())
    assert (kept["n_clusters"], kept["range"], len(kept["tried"])) == (3, [2, 5], 4)
    assert kept["sure"].endswith(".")
    assert settled(quiet=False) == 3
    assert kept["sure"] in capsys.readouterr().err
    assert Identity.embedded == 1


def test_a_doubt_is_a_notice_that_names_other_numbers(settled, monkeypatch, tmp_path):
    settled()
    assert gather_notices(tmp_path) == [], "a sure number is none"
    kept = json.loads(settled.path.read_text())
    for others, words in (
        ([4], "with those of --clusters 4, or say"),
        ([4, 2, 5, 6], "with those of --clusters 4 or --clusters 2 or --clusters 5, or say"),
        ([], "--clusters K says the number"),
    ):
        doubtful = {
            **kept,
            "certain": False,
            "sure": "3 clusters, not sure: why.",
            "alternatives": others,
        }
        settled.path.write_text(json.dumps(doubtful))
        settled()
        settled()  # as a run that goes on: said once
        (notice,) = gather_notices(tmp_path)
        assert notice.text.startswith("3 clusters, not sure: why. ")
        assert (words in notice.text, notice.ill) == (True, False)
        (tmp_path / "clusterer/notices.json").unlink()


@pytest.mark.parametrize("change", ["", "{", "[]", "{}", "\x00", "n_clusters", "range", "missing"])
def test_settle_counts_anew_where_the_file_is_damaged(settled, change):
    assert settled() == 3
    first = settled.path.read_bytes()
    if change in ("n_clusters", "range"):
        settled.path.write_text(json.dumps({**json.loads(first), change: {"n_clusters": 9}.get(change)}))
    elif change == "missing":
        settled.path.unlink()
    else:
        settled.path.write_text(change)
    assert settled() == 3
    assert settled.path.read_bytes() == first
    assert Identity.embedded == 2


TINY = [
    "--encoder", "sdae",
    "--evaluator", "clustering", "--device", "cpu", "--precision", "float32", "--clusterer", "kmeans",
    "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=1", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "clusterer.n_init=1",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("blobs.npz", x=blobs(3, 0, n=120))
    return tmp_path


def deepclust(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def run(*more, clusters="auto:2-6", data="blobs.npz"):
    return deepclust("run", "--data", data, "--clusters", clusters, *TINY, *more)


def counted_notices(folder):
    notices = json.loads(Path(folder, "scores.json").read_text())["protocol"]["notices"]
    return [text for text in notices if "not sure" in text]


def test_a_run_counts_its_clusters(here, quick):
    result = run("--out", "run")
    assert result.exit_code == 0, result.output
    kept = json.loads(Path("run/clusters.json").read_text())
    assert [r["n_clusters"] for r in kept["tried"]] == [2, 3, 4, 5, 6]
    assert kept["sure"] in result.output
    record = json.loads(Path("run/run.json").read_text())
    assert (record["n_clusters"], record["request"]["clusters"]) == (kept["n_clusters"], "auto:2-6")
    with Path("run/labels.csv").open() as file:
        labels = {int(row["cluster"]) for row in csv.DictReader(file)}
    assert labels <= set(range(kept["n_clusters"]))
    again = run("--out", "other", "-q")
    assert again.exit_code == 0
    notes = [line for line in again.output.splitlines() if not line.startswith("Note: sdae reconstructs")]
    assert kept["certainty"] == "not sure"
    assert notes == [f"Note: {text}" for text in counted_notices("run")]
    assert len(notes) == 1
    assert notes[0].startswith(f"Note: {kept['sure']} ")
    assert "--clusters" in notes[0]
    assert Path("other/clusters.json").read_bytes() == Path("run/clusters.json").read_bytes()
    assert Path("other/labels.csv").read_bytes() == Path("run/labels.csv").read_bytes()


@pytest.mark.parametrize("at", ["in the count", "after it"])
def test_an_interrupted_run_goes_on_to_the_same_end(here, quick, monkeypatch, at):
    assert run("--out", "whole", "-q").exit_code == 0

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "in the count":
            patch.setattr(counting, "_refer", stop)
        else:
            from deepclust.plugins.kmeans.model import KMeans

            patch.setattr(KMeans, "fit", stop)
        stopped = run("--out", "stopped", "-q")
        assert stopped.exit_code == 130
        assert ("counting the clusters" in stopped.output) == (at == "in the count")
        assert Path("stopped/clusters.json").exists() == (at == "after it")
    assert run("--out", "stopped", "-q").exit_code == 0
    for name in ("clusters.json", "labels.csv"):
        assert Path("stopped", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.parametrize(
    ("clusters", "reason"),
    [
        ("auto:9-3", "auto:9-3"), ("auto:1-4", "auto:1-4"), ("auto:x", "auto:x"), ("auto:4-4", "auto:4-4"),
        ("auto:", "auto:"), ("automatic", "automatic"), ("auto:2-", "auto:2-"), ("auto:130-200", "120"),
    ],
)  # fmt: skip
def test_a_bad_range_is_one_sentence_and_writes_nothing(here, clusters, reason):
    result = run(clusters=clusters)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert reason in result.output
    assert [p.name for p in Path().iterdir()] == ["blobs.npz"]


def test_codes_that_cannot_be_counted_end_the_run_in_one_sentence(here):
    np.save("same.npy", np.ones((60, 5), np.float32))
    result = run("-q", data="same.npy")
    assert result.exit_code == 2
    assert "copies of 1 distinct row" in result.output
    assert result.output.count("\n") == 1
