"""How long a run will take is measured beforehand, leaves no trace, and can be fitted to a budget."""

import io
import json
import math
import random
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deepclust import DeepClustering
from deepclust.core import Data, InvalidSetting, Run, truth_of
from deepclust.core.contract.interfaces import Storage
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Batches
from deepclust.core.engine.extensions import Extension
from deepclust.core.run import pipeline, rehearsal
from deepclust.core.run import run as runs
from deepclust.core.run.plan import Request, request_from, resolve
from deepclust.core.toolbox.timetable import Stage, Timetable
from deepclust.plugins.compare.comparison import comparison_from
from made_training import log_of

SDAE = {"hidden": [16], "latent_dim": 4, "shift": 0.1, "least_steps": 40, "batch_size": 256}
SIMCLR = {"backbone": {"filters": [2, 2, 2], "hidden": 8, "latent_dim": 8}, "least_steps": 40}
SCAN = {"label_epochs": 20, "threshold": 0.0, "neighbours": 5, "least_steps": 40}
SMALL = {
    "sdae": SDAE,
    "dec": {"tol": 0.0, "least_steps": 40},
    "simclr": SIMCLR,
    "scan": SCAN,
    "cnn": {"filters": [2, 2], "hidden": 8},
    "deepcluster": {"n_init": 1, "least_steps": 40},
}


def ask(encoder: str, clusterer: str, **more) -> Request:
    settings = {"encoder": SMALL[encoder], "clusterer": SMALL[clusterer]}
    return Request(
        **{
            "encoder": encoder, "clusterer": clusterer, "evaluators": ("clustering",), "device": "cpu",
            "epochs_scale": 0.1, "clusters": 4, "settings": settings, **more,
        }
    )  # fmt: skip


def images() -> Data:
    """430 noisy squares in one of four corners."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(430) % 4
    x = torch.rand(430, 1, 8, 8, generator=generator) / 2
    for corner in range(4):
        row, column = 4 * (corner // 2), 4 * (corner % 2)
        x[labels == corner, :, row : row + 4, column : column + 4] += 0.5
    return Data(x, "squares", revealed=truth_of(labels.numpy()))


def carry_out(request: Request, out: Path, **more) -> dict:
    return pipeline.run(request, Storage(Path()), out, **{"data": images(), "quiet": True, **more}).summary


def steps_of(folder: Path) -> dict[str, int]:
    logs = {str(log.parent.relative_to(folder)): log_of(log.parent) for log in folder.rglob("log.jsonl")}
    return {stage: lines[-1]["iteration"] for stage, lines in logs.items()}


@pytest.fixture
def tables(monkeypatch):
    """The timetables of all rehearsals, which take at most 150 of the 430 samples."""
    monkeypatch.setattr(rehearsal, "MOST", 150)
    monkeypatch.setattr(rehearsal, "SOON", -1.0)  # else the first, short look is enough for such small runs
    found, real = [], rehearsal.rehearse

    def seen(*args, **more):
        found.append(real(*args, **more))
        return found[-1]

    monkeypatch.setattr(rehearsal, "rehearse", seen)
    return found


@pytest.fixture
def unmeasured(monkeypatch):
    """A function after which no rehearsal may be held."""

    def forbid():
        def refuse(*args, **more):
            raise AssertionError("there was a rehearsal")

        monkeypatch.setattr(rehearsal, "rehearse", refuse)

    return forbid


@pytest.mark.parametrize("pair", [("sdae", "dec"), ("simclr", "scan"), ("cnn", "deepcluster")], ids="+".join)
def test_planned_steps_are_those_of_the_run_whose_bits_stay_the_same(pair, tmp_path, tables, capsys):
    with_it = carry_out(ask(*pair), tmp_path / "with", quiet=False)
    without = carry_out(ask(*pair), tmp_path / "without")
    (table,) = tables
    planned = {stage.name: stage.steps for stage in table.stages}
    assert planned == steps_of(tmp_path / "with")
    at_scale = sum(stage.before + stage.step * stage.steps for stage in table.stages)
    assert table.total == pytest.approx(at_scale + sum(table.rest.values())), "not scaled once more"
    for name in ("labels.csv", "model.safetensors"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes(), name
    files = [{p.relative_to(f) for p in f.rglob("*")} for f in (tmp_path / "with", tmp_path / "without")]
    assert files[0] == files[1]
    assert without["protocol"] == with_it["protocol"]
    estimated = with_it["seconds"]["estimated"]
    assert list(estimated) == ["encoder", "clusterer", "results"]
    assert all(seconds > 0 for seconds in estimated.values())
    assert "estimated" not in without["seconds"]
    printed = capsys.readouterr().err
    assert re.search(r"^  (at most )?about \d+ (seconds|minutes) in all: encoder \d+:\d\d, ", printed, re.M)
    assert ("at most about" in printed) == (pair != ("cnn", "deepcluster"))


def rehearse(data: Data, work: Run, make=None) -> Timetable | None:
    plan = resolve(ask("sdae", "dec"), installed(), data=data)
    return rehearsal.rehearse(
        make or (lambda: plan.encoder.cls(plan.encoder.config, data.shape)),
        (plan.clusterer.cls, plan.clusterer.config), 10, {}, data, work,
    )  # fmt: skip


def test_a_rehearsal_leaves_nothing_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = Data(torch.rand(500, 1, 6, 6), "noise")
    before = data.x.clone()
    work = Run(tmp_path / "run", epochs_scale=0.05)
    for make in (None, lambda: 1 / 0):  # the second fails
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        drawn = torch.rand(1), np.random.rand(), random.random()
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        table = rehearse(data, work, make)
        assert (table is None) == (make is not None)
        assert (torch.rand(1), np.random.rand(), random.random()) == drawn
        assert torch.equal(data.x, before)
        assert not list((tmp_path / "temporary").iterdir())
        assert not (tmp_path / "run").exists()
        assert capfd.readouterr() == ("", "")


def test_a_quiet_run_and_one_that_goes_on_are_not_rehearsed(tmp_path, monkeypatch, unmeasured):
    def stop(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "look_at_stage", stop)  # after the first stage
        with pytest.raises(KeyboardInterrupt):
            carry_out(ask("sdae", "dec"), tmp_path / "run", quiet=False)
    unmeasured()
    carry_out(ask("sdae", "dec"), tmp_path / "quiet")
    assert carry_out(ask("sdae", "dec"), tmp_path / "run", quiet=False)["resumed"]


STAGES = (
    Stage("encoder/contrast", before=1.0, step=0.1, steps=1000, least=10),
    Stage("clusterer/scan", before=5.0, step=0.05, steps=2000, least=20),
    Stage("clusterer/label", before=2.0, step=1.0, steps=40, least=2, open=True),
)
TABLE = Timetable(STAGES, {"encoder": 3.0, "clusterer": 4.0, "results": 10.0})


def test_a_timetable_adds_up():
    assert TABLE.seconds() == pytest.approx({"encoder": 104.0, "clusterer": 151.0, "results": 10.0})
    assert TABLE.total == pytest.approx(265)
    assert TABLE.after("encoder/contrast") == pytest.approx(265 - 101)
    assert TABLE.after("clusterer/scan") == pytest.approx(42 + 4 + 10)
    assert TABLE.after("clusterer/label") == pytest.approx(14)
    assert str(TABLE) == "at most about 4 minutes in all: encoder 1:44, clusterer 2:31, results 0:10"
    assert str(replace(TABLE, stages=STAGES[:1])) == (
        "about 2 minutes in all: encoder 1:44, clusterer 0:04, results 0:10"
    )
    assert replace(TABLE, scale=0.001).seconds()["encoder"] == pytest.approx(3 + 1 + 10 * 0.1)  # an epoch


@pytest.mark.parametrize("minutes", [0.7, 1, 3, 10])
def test_lengths_fit_a_budget_to_two_digits(minutes):
    fitted = TABLE.fit(minutes)
    budget = 60 * minutes
    assert 0.75 * budget < fitted.total <= 0.95 * budget
    assert float(f"{fitted.scale:.2g}") == fitted.scale


def test_a_budget_never_makes_lengths_absurd():
    assert TABLE.fit(10_000).scale == 4
    assert TABLE.fit(0.01).scale == 0.01


def test_minutes_are_kept_and_go_on_at_their_scale(tmp_path, monkeypatch, tables, unmeasured, capsys):
    stages, looked = [], runs.look_at_stage

    def stop(trainer, **more):
        stages.append(trainer.name)
        if trainer.name == "encoder/finetune":
            raise KeyboardInterrupt
        return looked(trainer, **more)

    request = ask("sdae", "dec", epochs_scale=1.0, minutes=0.02)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "look_at_stage", stop)
        with pytest.raises(KeyboardInterrupt):
            carry_out(request, tmp_path / "cut")
    record = json.loads((tmp_path / "cut/run.json").read_text())
    scale = record["epochs_scale"]
    assert scale == tables[0].fit(0.02).scale
    assert record["request"]["minutes"] == 0.02
    assert record["request"]["epochs_scale"] == 1
    unmeasured()
    assert carry_out(request, tmp_path / "cut", quiet=False)["resumed"]
    assert f"times {scale:g} for 0.02 minutes (--epochs-scale {scale:g}" in capsys.readouterr().err
    assert json.loads((tmp_path / "cut/run.json").read_text())["epochs_scale"] == scale
    carry_out(ask("sdae", "dec", epochs_scale=scale), tmp_path / "whole")
    for name in ("labels.csv", "model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert DeepClustering.load(tmp_path / "cut").epochs_scale == scale
    with pytest.raises(Exception, match="minutes is 0.02 there and nothing here"):
        carry_out(ask("sdae", "dec", epochs_scale=1.0), tmp_path / "cut")


def test_minutes_that_could_not_be_measured_are_a_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "rehearse", lambda *args, **more: None)
    settings = {"encoder": {**SDAE, "layer_epochs": 1, "epochs": 1}, "clusterer": {"epochs": 1}}
    scores = carry_out(ask("sdae", "dec", epochs_scale=1.0, minutes=3, settings=settings), tmp_path / "run")
    assert any("--minutes 3 changed nothing" in notice for notice in scores["protocol"]["notices"])


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_minutes_that_are_no_time_are_refused(minutes):
    with pytest.raises(InvalidSetting, match="minutes is .*, but it must be above 0"):
        resolve(ask("sdae", "dec", epochs_scale=1.0, minutes=minutes), installed())


def test_minutes_are_of_one_run_and_not_beside_a_scale():
    with pytest.raises(InvalidSetting, match="give one of them"):
        resolve(ask("sdae", "dec", epochs_scale=0.5, minutes=3), installed())
    with pytest.raises(InvalidSetting, match="minutes is for one run"):
        comparison_from({"run": {"minutes": 3}}, {})
    assert request_from({"run": {"minutes": 3}}, {}).minutes == 3
    assert request_from({"run": {"minutes": 3}}, {"minutes": 5.0}).minutes == 5


def test_what_was_cut_is_said_once_with_what_lifts_it(tmp_path, monkeypatch):
    batches = Batches(Data(torch.rand(1000, 4), "noise"), 100, 0)
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    whole = Run(tmp_path, timetable=TABLE)  # 265 seconds; twice that are 9 minutes
    run = whole.child("encoder")
    for _ in range(2):
        assert run.length(None, batches, usual=60, least=10, most=300) == (30, "epoch")
    assert run.length(None, batches, usual=60, least=10, most=600) == (60, "epoch")
    assert whole.remarks == [
        "encoder: 30 epochs where 60 are usual, so that it takes minutes; --minutes 10 trains longer"
    ]
    assert said.getvalue() == f"  {whole.remarks[0]}\n"
    longer = replace(run, epochs_scale=2.0, remarks=[])
    assert longer.length(None, batches, usual=60, least=10, most=300) == (60, "epoch")
    assert longer.remarks == []


def test_remarks_of_lengths_stand_in_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr("deepclust.core.toolbox.length.MOST_FLOPS", 5e7)
    settings = {"encoder": {**SDAE, "layer_epochs": 0}, "clusterer": {"epochs": 1}}
    carry_out(ask("sdae", "dec", epochs_scale=1.0, settings=settings), tmp_path / "run")
    said = json.loads((tmp_path / "run/run.json").read_text())["said"]
    assert any(re.fullmatch(r"encoder: \d+ epochs where 60 are usual, .*", line) for line in said)


def test_what_is_bounded_does_not_grow_with_the_samples():
    """Not even where it compares all that it looks at with all."""
    from deepclust.core.run.rehearsal import Diary
    from deepclust.core.toolbox.timetable import LISTENING, bounded, squared

    class Ticking(Diary):
        ticks = 0.0

        def now(self):
            self.ticks += 1  # a second whenever it is looked at
            return self.ticks

    diary = Ticking(torch.device("cpu"))
    token = LISTENING.set(diary)
    diary.begin()  # at 1
    with squared():  # from 2 to 3
        pass
    with bounded(), squared():  # from 4 to 5
        pass
    LISTENING.reset(token)
    assert diary.passed(10) == (5 - 1 - 1) * 10 + 100 + 1  # at 6


def test_a_stage_that_would_stop_at_once_takes_no_negative_time(tmp_path):
    """As DEC's, where no label of the few samples changes."""
    from deepclust.core.engine import Updater
    from deepclust.core.run.rehearsal import Rehearsal

    data, model = Data(torch.rand(64, 3), "rows"), torch.nn.Linear(3, 1)
    run = Rehearsal(tmp_path, quiet=True, whole=6400, count=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    updater = Updater(run.batches(data, 16, "refine"), model, optimizer, lambda b: model(b.x).sum())

    class Refresh(Extension):
        trigger = (140, "iteration")

        def __call__(self, trainer):
            torch.rand(300, 300) @ torch.rand(300, 300)

    run.train("refine", updater, [(20000, "iteration"), lambda trainer: trainer.iteration >= 2], [Refresh()])
    (stage,) = run.diary.stages
    assert stage.step > 0
    assert (stage.steps, stage.open) == (20000, True)
