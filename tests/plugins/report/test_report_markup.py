"""Texts of a user's that hold markup, and long ones: shown as text, in a real browser too."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepclust.core import Data, Preparation, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from made_result import Halves, make_result, write_logs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = '<script>document.title="run"</script>"&\'.png'


def make_nasty(folder):
    """Every text that comes from a user holds markup, and some are long."""
    write_logs(folder)
    names = ("<img src=x onerror=alert(1)>", '"><b>', "{{ 7 * 7 }}" + "long" * 40)
    files = [NASTY if i % 2 else f"{'long-name' * 20}{i}.png" for i in range(60)]
    text = '</title><script>alert("title")</script>'
    result = make_result(folder)
    (folder / "figures").mkdir()
    Image.new("RGB", (900, 300)).save(folder / "figures" / f"svm-{'a-long-title' * 20}.png")
    return replace(
        result, data=Data(result.data.x, text).seal(), truth=Truth(np.arange(60) % 3, names), files=files,
        encoder=Halves((1, 6, 6), 4),
        record={
            "command": ["run", "--data", NASTY, "--out", "x" * 200],
            "request": {"encoder": {"name": "</style>", "settings": {"hidden": [5, 6], "x": None}}},
            "versions": {"plugins": {"a": "b" * 300}},
        },
        protocol={"trained on": "<i>data</i>"},
        scores={
            "clustering": {"accuracy": 0.5, "<u>": 3},
            "svm": {"<u>": 0.5, "kernel": NASTY, "long": "long" * 60},
        },
    )  # fmt: skip


def report(result, **settings):
    """The page of a result, as text."""
    cls = installed().load("evaluator", "report")
    cls(build(cls.Config, settings, "report")).evaluate(result)
    return (result.folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_names_with_markup_are_shown_as_text(tmp_path):
    page = report(make_nasty(tmp_path))
    reader = Reader(page)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "u"}
    assert NASTY in {a["alt"] for a in reader.all("img")}
    assert "<img src=x" in "".join(reader.text)
    assert NASTY in unescape(page)


PROBE = """<script>
const found = {errors: []};
addEventListener("error", e => found.errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("load", () => {
  const images = [...document.images];
  found.images = images.length;
  found.broken = images.filter(i => !i.complete || !i.naturalWidth).length;
  found.width = document.documentElement.clientWidth;
  found.scroll = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  found.wide = [...document.querySelectorAll("body *")].filter(e => {
    for (let p = e; p; p = p.parentElement) if (p.classList.contains("scroll")) return false;
    return e.getBoundingClientRect().right > found.width + 1;
  }).map(e => e.outerHTML.slice(0, 200));
  found.title = document.title;
  found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  found.colours = [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor];
  found.svg = [...document.querySelectorAll("svg text")].map(e => getComputedStyle(e).fill);
  parent.postMessage(JSON.stringify(found), "*");
});
</script>"""


def browse(page: Path, width: int, *, dark: bool = False) -> tuple[dict, list[str]]:
    """What a headless browser finds in a page of that width, and the lines of its console."""
    copy = page.with_name("probe.html")
    text = re.sub(r"<meta http-equiv[^>]*>", PROBE, page.read_text(encoding="utf-8"))  # it forbids scripts
    copy.write_text(text, encoding="utf-8")
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<body><iframe src="probe.html" style="width:{width}px;height:800px;border:0"></iframe>'
        '<pre id="o"></pre>'
        "<script>onmessage = e => { document.getElementById('o').textContent = e.data }</script>"
    )
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr", "--v=0",
        "--hide-scrollbars",
        "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="o">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(found[1])), console


def luminance(colour: str) -> float:
    red, green, blue = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
@pytest.mark.parametrize("kind", ["pictures", "rows"])
def test_a_browser_shows_it(tmp_path, width, dark, kind):
    result = make_nasty(tmp_path)
    if kind == "rows":
        columns = tuple(f"{'a-very-long-column' * 4}{i}" for i in range(8))
        data = Data(torch.rand(60, 8), "rows", prepared=Preparation((8,), "float32", columns))
        result = replace(result, data=data.seal(), encoder=nn.Identity())
    page = report(result)
    found, console = browse(tmp_path / "report.html", width, dark=dark)
    assert console == []
    assert found["errors"] == []
    assert found["images"] == len(Reader(page).all("img"))
    assert found["broken"] == 0
    assert found["width"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["title"] != "run"
    assert found["dark"] is dark
    ink, paper = (luminance(colour) for colour in found["colours"])
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
    assert (ink > paper) is dark
    assert any(fill == found["colours"][0] for fill in found["svg"])
