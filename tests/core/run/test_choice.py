"""What is chosen where the user names no encoder or clusterer, and defaults that follow the data."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch

from deepclust.core import Data, Storage
from deepclust.core.contract.config import build, layered
from deepclust.core.contract.registry import installed
from deepclust.core.errors import InvalidSetting, UnknownName
from deepclust.core.run.choice import choose, stand_in
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import AUTO, Request, check_made, data_defaults, request_from, resolve
from deepclust.plugins.resnet.model import ResNetConfig
from deepclust.plugins.simclr.model import SimCLR, SimCLRConfig

ROWS = Data(torch.zeros(40, 6), "rows")
GREY = Data(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), "grey")
PHOTOS = Data(torch.zeros(40, 3, 64, 96, dtype=torch.uint8), "photos")


@pytest.mark.parametrize("data", [ROWS, GREY, PHOTOS])
@pytest.mark.parametrize("encoder", [AUTO, "sdae"])
@pytest.mark.parametrize("clusterer", [AUTO, "kmeans", "dec", "idec", "scan", "deepcluster"])
def test_every_choice_is_a_pair_that_can_work_and_keeps_what_was_named(data, encoder, clusterer):
    request = Request(encoder=encoder, clusterer=clusterer)
    chosen = choose(request, data, installed())
    plan = resolve(chosen.fill(request), installed(), given=True, data=data)  # refuses an impossible pair
    assert encoder in (AUTO, plan.request.encoder)
    assert clusterer in (AUTO, plan.request.clusterer)
    assert AUTO not in (plan.request.encoder, plan.request.clusterer)
    check_made(plan, plan.encoder.cls(plan.encoder.config, data.shape))  # with these settings as well
    said = chosen.why
    assert ("--encoder" in said, "--clusterer" in said) == (encoder == AUTO, clusterer == AUTO)
    assert (f"{chosen.encoder} + {chosen.clusterer}" in said) == (AUTO in (encoder, clusterer))
    assert not plan.encoder.entry.component.supervised


def test_the_reason_is_that_of_the_pair():
    why = choose(Request(encoder="cae"), GREY, installed()).why
    assert why == "cae + kmeans for images: kmeans is what goes with cae (--clusterer to choose yourself)"


def test_what_is_named_is_checked_before_the_data_are_read():
    request = Request(clusterer="dec", settings={"encoder": {"epochs": "1"}, "clusterer": {"lr": "much"}})
    with pytest.raises(InvalidSetting, match="clusterer.lr"):
        resolve(stand_in(request), installed(), given=True)
    with pytest.raises(UnknownName, match="did you mean 'sdae'"):
        resolve(stand_in(Request(encoder="sade")), installed(), given=True)
    resolve(stand_in(Request(settings={"encoder": {"steps": "1"}})), installed(), given=True)


def test_defaults_by_the_data_stand_below_presets_and_settings():
    grey = data_defaults(SimCLR, {}, GREY)
    assert build(SimCLRConfig, grey, "encoder").flip is False
    photos = build(SimCLRConfig, data_defaults(SimCLR, {}, PHOTOS), "encoder")
    assert photos.flip is True
    assert photos.backbone.name == "cae"
    assert SimCLR(photos, PHOTOS.shape).size == (32, 48)
    assert data_defaults(SimCLR, {"preset": "paper"}, PHOTOS) == {}
    own = {"backbone": "resnet", "backbone.width": "8"}
    config = build(SimCLRConfig, layered(data_defaults(SimCLR, own, PHOTOS), own), "encoder")
    resnet = {f.name: f.default for f in fields(ResNetConfig)} | {"width": 8}
    assert vars(config.backbone.config) == resnet, "settings of another backbone do not stay"
    refined = {"backbone": {"latent_dim": 5}}
    config = build(SimCLRConfig, layered(data_defaults(SimCLR, refined, PHOTOS), refined), "encoder")
    assert (config.backbone.name, config.backbone.config.latent_dim) == ("cae", 5)
    assert config.backbone.config.filters == (32, 64, 128), "without a name the default's stays"


def test_views_and_codes_at_the_networks_size():
    config = build(SimCLRConfig, {**data_defaults(SimCLR, {}, PHOTOS), "decoder_epochs": 1}, "encoder")
    model = SimCLR(config, PHOTOS.shape).eval()
    x = torch.rand(3, 3, 64, 96)
    assert model.view(x).shape == (3, 3, 32, 48)
    with torch.no_grad():
        small = torch.nn.functional.avg_pool2d(x, 2)
        torch.testing.assert_close(model(x), model(small))
        assert model.decode(model(x)).shape == x.shape


def test_a_run_without_names_says_and_records_its_choice(tmp_path, capsys):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 255, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    overrides = {
        "data": str(tmp_path / "x.npy"), "clusters": 3, "epochs_scale": 0.002, "evaluators": ("clustering",),
    }  # fmt: skip
    out = tmp_path / "out"
    run(request_from({}, overrides), Storage(tmp_path), out)
    said = capsys.readouterr().err
    record = json.loads((out / "run.json").read_text())
    names = [record["request"][part]["name"] for part in ("encoder", "clusterer")]
    assert f"{names[0]} + {names[1]} for images" in said
    assert record["request"]["encoder"]["settings"]["flip"] is False
    assert any(f"{names[0]} + {names[1]}" in line for line in record["said"])
    again = run(request_from({}, overrides), Storage(tmp_path), out)
    assert again.was_finished
