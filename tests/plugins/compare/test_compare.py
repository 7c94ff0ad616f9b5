"""Comparisons: each run is the one it would be alone, the tables say what the runs' own files say."""

import html
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import adjusted_rand_score

from deepclust.plugins.compare.table import Trial, tabulate
from made_command import deepclust
from made_comparison import ALONE, TINY, compared, table_of, write_data
from made_process import finish, start, wait_until

PAIRS = [("sdae", "kmeans"), ("sdae", "dec")]
SEEDS = (0, 1, 4)
TIMES = ("encoder_seconds", "clusterer_seconds", "seconds")


def without_times(path: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in table_of(path)]


def labels_of(path: Path) -> list[str]:
    return [row["cluster"] for row in table_of(path)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished comparison beside its data, and what its command printed."""
    folder = tmp_path_factory.mktemp("compared")
    write_data(folder / "good.npz")
    with chdir(folder):
        return folder, compared("out").output


@pytest.fixture
def here(done, monkeypatch):
    """The folder of the finished comparison as working directory; nothing there may be changed."""
    monkeypatch.chdir(done[0])
    return done[0]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory but for the data."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "good.npz")
    write_data(tmp_path / "unlabelled.npz", truth=False)
    return tmp_path


def test_each_run_has_the_bytes_of_the_same_run_alone(here, tmp_path):
    for (encoder, clusterer), seed in itertools.product(PAIRS, SEEDS[:2]):
        alone, own = tmp_path / f"{clusterer}{seed}", here / f"out/runs/{encoder}-{clusterer}-seed{seed}"
        settings = [a.replace(f"{clusterer}.", "clusterer.") for a in ALONE]
        for i in [i for i, a in enumerate(settings) if a.startswith(("kmeans.", "dec."))][::-1]:
            del settings[i - 1 : i + 1]  # -s and its value
        deepclust("run", "--data", "good.npz", "--encoder", encoder, "--clusterer", clusterer,
                  "--seed", seed, "--out", alone, "-q", *settings)  # fmt: skip
        for name in ("labels.csv", "model.safetensors", "embedding.npy"):
            assert (alone / name).read_bytes() == (own / name).read_bytes(), (clusterer, seed, name)
        records = [json.loads((folder / "run.json").read_text()) for folder in (alone, own)]
        for key in ("request", "data", "preparation"):
            assert records[0][key] == records[1][key]
        mine, theirs = (json.loads((folder / "scores.json").read_text()) for folder in (alone, own))
        assert mine["evaluators"] == theirs["evaluators"]


def test_an_encoder_is_trained_once_for_each_seed_and_shared(done):
    folder, output = done
    for stage in ("encoder/layer0", "encoder/layer1", "encoder/finetune"):
        assert sum(line.startswith(f"  {stage}:") for line in output.splitlines()) == len(SEEDS)
    assert sum(line.startswith("  clusterer/refine:") for line in output.splitlines()) == len(SEEDS)
    out = folder / "out"
    assert {p.name for p in (out / "encoders").iterdir()} == {f"sdae-seed{seed}" for seed in SEEDS}
    for (encoder, clusterer), seed in itertools.product(PAIRS, SEEDS):
        link = out / f"runs/{encoder}-{clusterer}-seed{seed}/encoder"
        assert not os.path.isabs(os.readlink(link)), "the comparison can be moved"
        assert link.resolve() == out / f"encoders/sdae-seed{seed}"
    numbers = [line.split(":")[0] for line in output.splitlines() if " of 6: " in line]
    assert numbers == [f"{i} of 6" for i in range(1, 7)]


def test_the_tables_are_what_the_runs_own_files_say(here):
    runs = {(r["encoder"], r["clusterer"], int(r["seed"])): r for r in table_of(Path("out/results.csv"))}
    assert len(runs) == 6
    kept: dict[tuple[str, str, str], list[float]] = {}
    spent = {}
    for (encoder, clusterer, seed), row in runs.items():
        assert (row["state"], row["healthy"], row["reason"]) == ("finished", "true", "")
        scores = json.loads(Path(f"out/runs/{encoder}-{clusterer}-seed{seed}/scores.json").read_text())
        numbers = {k: v for k, v in scores["evaluators"]["clustering"].items() if isinstance(v, (int, float))}
        assert {"accuracy", "nmi", "ari", "silhouette", "effective_clusters"} <= numbers.keys()
        for name, value in numbers.items():
            assert float(row[name]) == value
            kept.setdefault((encoder, clusterer, name), []).append(value)
        rest = {"encoder", "clusterer", "seed", "state", "healthy", "reason", "notices", *TIMES}
        assert row.keys() - numbers.keys() == rest
        spent[encoder, clusterer, seed] = scores["seconds"]
    for (encoder, clusterer, seed), row in runs.items():
        shared = max(s["encoder"] for (e, _, k), s in spent.items() if (e, k) == (encoder, seed))
        assert float(row["encoder_seconds"]) == shared
        own = spent[encoder, clusterer, seed]["clusterer"]
        assert float(row["clusterer_seconds"]) == own
        assert float(row["seconds"]) == pytest.approx(shared + own)
    rows = table_of(Path("out/table.csv"))
    assert [(r["encoder"], r["clusterer"]) for r in rows] == PAIRS
    for row in rows:
        assert (row["runs"], row["finished"], row["state"], row["reason"]) == ("3", "3", "finished", "")
        assert row["unhealthy"] == "0"
        pair = row["encoder"], row["clusterer"]
        for (*of, name), values in kept.items():
            if tuple(of) == pair:
                assert float(row[f"{name}_mean"]) == pytest.approx(statistics.fmean(values))
                assert float(row[f"{name}_deviation"]) == pytest.approx(statistics.stdev(values), abs=1e-9)
                assert row[f"{name}_n"] == "3"
        labels = [labels_of(Path(f"out/runs/{'-'.join(pair)}-seed{seed}/labels.csv")) for seed in SEEDS]
        agreement = statistics.fmean(adjusted_rand_score(a, b) for a, b in itertools.combinations(labels, 2))
        assert float(row["stability_mean"]) == pytest.approx(agreement)
    for name in ("accuracy", "nmi", "ari", "purity", "stability"):
        top = max(rows, key=lambda row: float(row[f"{name}_mean"]))
        assert top[f"{name}_mark"] == "best"
    fastest = min(rows, key=lambda row: float(row["seconds_mean"]))
    assert fastest["seconds_mark"] == "best"
    assert "silhouette_mark" not in rows[0]
    assert "effective_clusters_mark" not in rows[0]


def trial(name, seed, **scores):
    times = {"encoder_seconds": 1.0, "clusterer_seconds": 1.0}
    return Trial(("e", name), seed, Path(name), "finished", scores={**scores, **times})


def test_the_best_is_marked_and_what_cannot_be_told_from_it():
    values = {"a": [0.5, 0.75, 1.0], "b": [0.625], "c": [0.5, 0.625], "d": [0.75, 0.75], "e": []}
    error = statistics.stdev(values["a"]) / math.sqrt(3)  # 0.144
    assert 0.75 - 0.625 < error < 0.75 - 0.5625
    trials = [trial(n, seed, accuracy=v, other=v) for n, own in values.items() for seed, v in enumerate(own)]
    rows = tabulate(trials, {}, [("e", name) for name in values]).rows
    marks = {row.pair[1]: row.cells["accuracy"].mark for row in rows if row.cells}
    assert marks == {"a": "best", "b": "close", "c": "", "d": "best"}
    assert {row.cells["other"].mark for row in rows if row.cells} == {""}
    assert rows[1].cells["accuracy"].deviation is None
    assert rows[3].cells["accuracy"].deviation == 0
    assert not rows[4].cells


def test_a_single_pair_is_not_called_the_best():
    rows = tabulate([trial("a", 0, accuracy=0.5)], {}, [("e", "a")]).rows
    assert rows[0].cells["accuracy"].mark == ""


def test_the_seed_of_the_least_unsupervised_loss_is_named_with_how_it_fared():
    times = dict.fromkeys(TIMES, 1.0)
    values, pair = [(3.0, 0.5), (1.0, 0.7), (2.0, 0.9)], ("a", "scan")
    trials = [
        Trial(pair, seed, Path(), "finished", "", {"unsupervised_loss": loss, "accuracy": acc, **times})
        for seed, (loss, acc) in enumerate(values)
    ]
    (line,) = [text for text in tabulate(trials, {}, [("a", "scan")]).legend(()) if "seed 1" in text]
    assert "accuracy is 0.700, of all 3 seeds 0.500 to 0.900, mean 0.700" in line
    unlabelled = [
        Trial(t.pair, t.seed, t.folder, t.state, "", {k: v for k, v in t.scores.items() if k != "accuracy"})
        for t in trials
    ]
    lines = tabulate(unlabelled, {}, [("a", "scan")]).legend(())
    assert "a + scan: seed 1 has the least unsupervised loss." in lines
    assert not any("least" in text for text in tabulate(trials[:1], {}, [("a", "scan")]).legend(()))


def test_unhealthy_runs_are_marked_and_counted_and_count_in_the_mean(tmp_path, capsys):
    times = dict.fromkeys(TIMES, 1.0)
    trials = [
        Trial(("e", name), seed, tmp_path / f"{name}{seed}", "finished", scores={"accuracy": 0.5, **times},
              notices=("It <was> undone.", *ills), ills=ills)
        for name, own in {"a": [(), ("2 of 3 are empty.",)], "b": [(), ()]}.items()
        for seed, ills in enumerate(own)
    ]  # fmt: skip
    table = tabulate([*trials, Trial(("e", "b"), 2, tmp_path)], {}, [("e", "a"), ("e", "b")])
    table.write(tmp_path)
    assert [row["healthy"] for row in table_of(tmp_path / "results.csv")] == [
        "true",
        "false",
        "true",
        "true",
        "",
    ]
    assert [row["unhealthy"] for row in table_of(tmp_path / "table.csv")] == ["1", "0"]
    table.show(Console(width=80))
    table.tell()
    shown = capsys.readouterr().out.splitlines()
    a, b = (next(line for line in shown if line.startswith(f"e + {name}")) for name in "ab")
    assert "!0.500±0.000" in a
    assert "!" not in b
    assert "0.500±0.000" in b
    assert shown[-3:] == [
        "Note: e + b, seeds 0, 1: It <was> undone.",
        "Unhealthy result: e + a, seed 1: 2 of 3 are empty.",
        "1 of 5 runs is unhealthy.",
    ]
    table.tell(quiet=True)
    quiet = capsys.readouterr()
    assert quiet.out == ""
    assert quiet.err.splitlines()[-2:] == shown[-2:]


def test_a_comparison_of_unhealthy_runs_ends_as_any_other(elsewhere, collapsing):
    asked = [
        "compare",
        "--data",
        "good.npz",
        "--clusterer",
        f"kmeans,{collapsing}",
        "--seeds",
        "1",
        *TINY[:-4],
    ]
    asked += ["--out", "out", "-q"]
    output = deepclust(*asked).output
    assert output.splitlines()[-1] == "1 of 2 runs is unhealthy."
    assert [row["healthy"] for row in table_of(Path("out/results.csv"))] == ["true", "false"]
    page = Page(Path("out/compare.html").read_text())
    assert "1 of 2 runs is unhealthy." in page.text
    assert "finished, unhealthy" in page.text
    assert deepclust(*asked).output == output


def test_stability_is_left_out_where_everything_is_in_one_cluster():
    def labelled(name, *labels):
        return [
            Trial(("e", name), seed, Path(name), "finished", labels=np.array(each),
                  scores={"encoder_seconds": 1.0, "clusterer_seconds": 1.0})
            for seed, each in enumerate(labels)
        ]  # fmt: skip

    trials = labelled("same", [0, 0, 1], [2, 2, 0]) + labelled("one", [0, 0, 0], [1, 1, 1])
    same, one = tabulate(trials, {}, [("e", "same"), ("e", "one")]).rows
    assert same.cells["stability"].mean == 1
    assert "stability" not in one.cells


def test_the_terminal_gets_a_table_of_80_columns(done):
    folder, output = done
    shown = [line for line in output.splitlines() if line.startswith(("pair", "sdae + "))]
    assert [line.split()[0] for line in shown] == ["pair", "sdae", "sdae"]
    assert all(len(line) <= 80 for line in shown)
    for line, row in zip(shown[1:], table_of(folder / "out/table.csv"), strict=True):
        for name in ("accuracy", "nmi", "ari"):
            assert f"{float(row[f'{name}_mean']):.3f}±{float(row[f'{name}_deviation']):.3f}" in line
        assert " 3/3 " in line


def test_without_truth_there_are_no_columns_of_it(elsewhere):
    output = compared("out", "--seeds", "2", data="unlabelled.npz").output
    for path in (Path("out/table.csv"), Path("out/results.csv")):
        assert not [
            name for name in table_of(path)[0] if name.startswith(("accuracy", "nmi", "ari", "purity"))
        ]
    assert float(table_of(Path("out/table.csv"))[0]["stability_mean"]) <= 1
    assert "stability" in output
    assert "accuracy" not in output


def test_a_number_of_clusters_that_was_counted_is_a_column(elsewhere):
    compared("out", "--seeds", "2", "--clusters", "auto:2-4", "-q")
    rows = table_of(Path("out/results.csv"))
    for row in rows:
        folder = Path(f"out/runs/{row['encoder']}-{row['clusterer']}-seed{row['seed']}")
        assert int(row["clusters"]) == json.loads((folder / "clusters.json").read_text())["n_clusters"]
        assert 2 <= int(row["clusters"]) <= 4
    assert [r["clusters"] for r in rows[:2]] == [r["clusters"] for r in rows[2:]], "the same codes"


def test_what_runs_want_read_stands_in_table_page_and_terminal(elsewhere):
    asked = ["--data", "good.npz", "--clusterer", "kmeans,scan", "--seeds", "0,1", *TINY[:-4], "--out", "out"]
    asked += ["-s", "scan.preset=quick", "-s", "scan.epochs=1"]
    output = deepclust("compare", *asked, "-s", "scan.label_epochs=3", "-s", "scan.threshold=0.9999").output
    page = html.unescape(Path("out/compare.html").read_text())
    for row in table_of(Path("out/results.csv")):
        scores = Path(f"out/runs/sdae-{row['clusterer']}-seed{row['seed']}/scores.json")
        said = json.loads(scores.read_text())["protocol"].get("notices", [])
        assert any("self-labelling" in text for text in said) == (row["clusterer"] == "scan")
        assert row["notices"] == " ".join(said)
        for text in said:
            assert f"seed {row['seed']}: {text}" in page
            assert f"Note: sdae + scan, seed {row['seed']}: {text}" in " ".join(output.split())


def test_what_is_finished_is_not_run_again_and_its_tables_stay(here):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path("out").rglob("*") if p.is_file()}
    output = compared("out").output
    assert output.count("finished already") == 6
    for path, (changed, content) in before.items():
        assert path.read_bytes() == content, path
        if path.parent != Path("out") and path.name != ".lock":
            assert path.stat().st_mtime_ns == changed, path


def start_comparison(out: Path) -> subprocess.Popen:
    return start(["compare", "--data", "good.npz", "--clusterer", "kmeans,dec", "--seeds", "0,1", *TINY,
                  "--out", str(out), "-s", "encoder.epochs=150", "-s", "dec.epochs=20"])  # fmt: skip


def test_a_comparison_that_was_stopped_goes_on_to_the_same_tables(elsewhere):
    cut, whole = Path("cut"), start_comparison(Path("whole"))
    try:
        process = start_comparison(cut)
        wait_until((cut / "runs/sdae-kmeans-seed1/run.json").exists, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Interrupted in run 3 of 4: sdae + kmeans, seed 1" in errors.decode()
        assert "deepclust compare --data good.npz" in errors.decode()
        states = [row["state"] for row in table_of(cut / "results.csv")]
        assert sorted(states) == ["finished"] * 2 + ["not run yet"] * 2
        finished = cut / "runs/sdae-dec-seed0/scores.json"
        first = finished.stat().st_mtime_ns

        process = start_comparison(cut)
        wait_until((cut / "runs/sdae-dec-seed1/run.json").exists, process)
        process.kill()
        process.communicate()

        finish(start_comparison(cut))
        assert finished.stat().st_mtime_ns == first
        finish(whole)
    finally:
        whole.kill()
    for name in ("results.csv", "table.csv"):
        assert without_times(cut / name) == without_times(Path("whole") / name)


def test_a_setting_goes_to_all_or_to_one_and_the_one_wins(elsewhere):
    Path("both.toml").write_text(
        '[run]\nencoder = ["sdae"]\nclusterer = ["kmeans", "dec"]\nseeds = [7]\ndata = "good.npz"\n'
        "clusters = 3\n"
        "[encoder]\nepochs = 3\nhidden = [8]\nlayer_epochs = 1\n[sdae]\nepochs = 2\n[dec]\nepochs = 1\n"
    )
    deepclust("compare", "--config", "both.toml", "--out", "out", "-q", "-s", "kmeans.n_init=2",
              "--device", "cpu", "-s", "clusterer.tol=0.01")  # fmt: skip
    requests = {
        name: json.loads(Path(f"out/runs/sdae-{name}-seed7/run.json").read_text())["request"]
        for name in ("kmeans", "dec")
    }
    assert {r["encoder"]["settings"]["epochs"] for r in requests.values()} == {2}
    assert requests["kmeans"]["clusterer"]["settings"]["n_init"] == 2
    assert requests["dec"]["clusterer"]["settings"]["epochs"] == 1
    assert {r["clusterer"]["settings"]["tol"] for r in requests.values()} == {0.01}


class Page(HTMLParser):
    """The links, tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.text = [], set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def test_the_page_links_what_is_there_and_needs_nothing_else(elsewhere):
    compared("out", "--seeds", "1", "-q")
    page = Page(Path("out/compare.html").read_text())
    assert sorted(page.links) == ["runs/sdae-dec-seed0", "runs/sdae-kmeans-seed0"]
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert "url(" not in Path("out/compare.html").read_text()
    for row in table_of(Path("out/table.csv")):
        assert f"{float(row['accuracy_mean']):.3f}" in page.text
    Path("out/runs/sdae-dec-seed0/report.html").write_text("a report")
    compared("out", "--seeds", "1", "-q")
    page = Page(Path("out/compare.html").read_text())
    assert "runs/sdae-dec-seed0/report.html" in page.links
    assert all((Path("out") / link).exists() for link in page.links)


def test_names_of_the_users_own_are_escaped(elsewhere):
    name = "<script>alert(1)</script>&.npz".replace("/", "")
    Path("good.npz").rename(name)
    compared("out", "--seeds", "1", "-q", data=name)
    text = Path("out/compare.html").read_text()
    assert "<script" not in text
    assert name in Page(text).text
