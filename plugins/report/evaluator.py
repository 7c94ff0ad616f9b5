"""The report of a run: what goes into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from markupsafe import Markup

from ...core import Evaluator, Result, Score, progress, setting
from ...core.contract.reference import short
from ...core.files import write_text
from . import figure, page
from .column import describe_columns
from .gallery import show_decoded, show_generated
from .history import read_count, read_stages
from .latent import decode_grid
from .map import make_map
from .picture import Pictures, Thumbnails
from .score import read_parts, tiles
from .sheet import Sheet
from .summary import Confusion, class_name, confuse
from .svg import write_figure

REPORT, FIGURES = "report.html", "figures"


@dataclass(frozen=True)
class ReportConfig:
    map: Literal["tsne", "umap", "none"] = setting("tsne", "the 2-D map: t-SNE, UMAP, or none")
    map_samples: int = setting(2000, "samples on the map, drawn at random where there are more", low=10)
    prototypes: int = setting(12, "most confident members shown of each cluster", low=1, high=200)
    doubtful: int = setting(6, "members shown of each cluster that almost went to another", low=0, high=200)
    neighbours: int = setting(8, "nearest samples in a row; 0: no such rows", low=0, high=50)


class Report(Evaluator):
    """Writes ``report.html``, one page that opens from disk, and its figures as PNG and SVG."""

    Config: ClassVar[type[ReportConfig]] = ReportConfig
    last: ClassVar[bool] = True

    def seconds(self, n_samples: int) -> float:
        """Of the map, and of the page."""
        mapped = 0 if self.config.map == "none" else min(n_samples, self.config.map_samples)
        return (0.003 if self.config.map == "tsne" else 0.012) * mapped + 2.5

    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """Write the page; the scores say how well an encoder denoises that was trained to."""
        c: ReportConfig = self.config
        folder = result.folder / FIGURES
        folder.mkdir(parents=True, exist_ok=True)
        confusion = confuse(result.truth, result.labels, result.n_clusters)
        palette, class_palette = _palettes(result.n_clusters, confusion)
        pictures = Pictures(result.data, result.seed)
        shown_map = self._map(result, folder, palette, class_palette, pictures)
        columns = None
        if len(result.data.shape) == 1:
            columns = describe_columns(result.data, result.labels, result.n_clusters)
        shown: Pictures | Thumbnails = pictures
        if not pictures.there and result.items is not None and result.items.paths is not None:
            shown = Thumbnails(result.items)
        sheet = Sheet(result, shown, columns, confusion, c.prototypes, c.doubtful)
        sections = []
        with progress("writing the report", len(sheet.filled), "clusters", quiet=result.quiet) as advance:
            for k in sheet.filled:
                sections.append(sheet.section(k, palette[k]))
                advance(1)
            near = sheet.nearest_rows(c.neighbours) if c.neighbours else None
            mined = sheet.mined_rows(c.neighbours) if c.neighbours else None
            decoded, scores = show_decoded(result, pictures)
            parts = read_parts(_given(result), folder)
            apart = [p for p in parts if p.texts or p.figures]
            record, protocol = result.record, dict(result.protocol)
            reasons, notices = result.health.get("reasons", []), protocol.pop("notices", [])
            content = {
                "description": result.data.description,
                "names": _names(result),
                "n_samples": len(result.labels),
                "n_held_out": len(result.test.labels) if result.test is not None else 0,
                "n_clusters": result.n_clusters,
                "latent_dim": result.z.shape[1],
                "key": result.key if result.files is not None else "sample",
                "reasons": reasons,
                "notices": [text for text in notices if text not in reasons],
                "protocol": protocol,
                "tiles": [t for p in parts if p not in apart for t in p.tiles] + tiles("report", scores),
                "parts": apart,
                "sections": sections,
                "noise": sheet.noise(figure.UNKNOWN),
                "empty": sorted(set(range(result.n_clusters)) - set(sheet.filled)),
                "sheet": sheet,
                "pictures": shown,
                "texts": result.items is not None and result.items.texts is not None,
                "map": shown_map,
                "sizes": write_figure(
                    lambda: figure.draw_sizes(sheet.sizes, palette), folder, "sizes",
                    "Bars: the number of samples of each cluster",
                ),
                "known": confusion is not None,
                "confusion": _confusion(result, folder),
                "neighbours": near,
                "mined": mined,
                "decoded": decoded,
                "generated": show_generated(result, pictures),
                "stages": _stage_figures(result.folder, folder),
                "count": _count(result, folder),
                "settings": page.settings(record),
                "command": page.command(record),
            }  # fmt: skip
            write_text(result.folder / REPORT, page.render(content))
        return scores

    def _map(
        self, result: Result, folder: Path, palette: list[str], class_palette: list[str], pictures: Pictures
    ) -> dict[str, Any] | None:
        """The 2-D map, and beside it what codes between those of samples decode to; None without either."""
        c: ReportConfig = self.config
        grid = decode_grid(result.encoder, result.z, pictures)
        decoded = None
        if grid is not None:
            decoded = write_figure(
                lambda: figure.draw_grid(grid), folder, "latent",
                "What codes on a grid decode to, along the code's two dimensions",
            )  # fmt: skip
        if c.map == "none":
            found = {"figures": [], "method": "", "reduced": False, "decoded": decoded}
            return found if decoded else None
        shown = min(c.map_samples, len(result.labels))
        with progress("drawing the map", shown, "samples", quiet=result.quiet) as advance:
            where = make_map(result.z, result.centers, c.map, c.map_samples, result.seed)
            advance(shown)
        figures = [
            write_figure(
                lambda: figure.draw_map(where, result.labels[where.index], palette, "by cluster"),
                folder, "map-clusters", "2-D map of the codes, each sample in its cluster's colour",
            )
        ]  # fmt: skip
        if truth := result.truth if class_palette else None:
            names = [class_name(truth, code) for code in range(len(class_palette))]
            figures.append(
                write_figure(
                    lambda: figure.draw_map(
                        where, truth.labels[where.index], class_palette, "by true class", names
                    ),
                    folder, "map-classes", "The same map, each sample in the colour of its true class",
                )
            )  # fmt: skip
        how = where.method
        if shown < len(result.labels):
            how += f"; {shown:,} of {len(result.labels):,} samples, drawn at random"
        return {"figures": figures, "method": how, "reduced": where.axes is None, "decoded": decoded}


def _palettes(n_clusters: int, confusion: Confusion | None) -> tuple[list[str], list[str]]:
    """A colour for each cluster, and for each class that of the cluster it is matched with."""
    n_classes = len(confusion.rows) if confusion else 0
    base = figure.colours(max(n_clusters, n_classes))
    match = confusion.match() if confusion else {}
    free = iter([c for i, c in enumerate(base) if i not in match.values()])
    classes = [base[match[code]] if code in match else next(free) for code in range(n_classes)]
    return base[:n_clusters], classes


def _given(result: Result) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and scores of a clusterer that chose by one, and of the other evaluators."""
    loss = getattr(result.clusterer, "unsupervised_loss", None)
    chose = [] if loss is None else [("clusterer", {"unsupervised_loss": loss})]
    return [*chose, *((name, values) for name, values in result.scores.items() if name != "report")]


def _names(result: Result) -> str:
    request = result.record.get("request", {})
    parts = []
    for part, made in (("encoder", result.encoder), ("clusterer", result.clusterer)):
        parts.append(short(request.get(part, {}).get("name") or type(made).__name__))
    return " + ".join(parts)


def _confusion(result: Result, folder: Path) -> dict[str, Any] | None:
    """Classes against clusters, of the held-out samples where their classes are known."""
    for source in (result.test, result):
        if source is None or source.truth is None:
            continue
        truth, confusion = source.truth, confuse(source.truth, source.labels, result.n_clusters)
        if confusion is not None:
            break
    else:
        return None
    counts = confusion.ordered()
    filled = counts.any(axis=0)
    classes = [class_name(truth, int(code)) for code in confusion.rows]
    clusters = confusion.columns[filled].tolist()
    drawn = write_figure(
        lambda: figure.draw_confusion(counts[:, filled], classes, clusters),
        folder, "confusion", "Confusion matrix: how many samples of each class are in each cluster",
    )  # fmt: skip
    return {"figure": drawn, "held_out": source is result.test, "n": int(counts.sum())}


def _stage_figures(run: Path, folder: Path) -> list[tuple[str, Markup, list[tuple[str, str]]]]:
    """The name, the curves and what they mean, of each stage of training."""
    made = []
    for stage in read_stages(run):
        name = f"loss-{stage.name.replace('/', '-')}"
        alt = f"Curves of {stage.name}: {', '.join(stage.curves)}"
        drawn = write_figure(partial(figure.draw_stage, stage), folder, name, alt)
        made.append((stage.name, drawn, stage.meanings()))
    return made


def _count(result: Result, folder: Path) -> dict[str, Any] | None:
    count = read_count(result.folder)
    if count is None:
        return None
    drawn = write_figure(
        lambda: figure.draw_count(count["tried"], result.n_clusters), folder, "clusters",
        "Score of each number of clusters that was tried",
    )  # fmt: skip
    return {"sure": str(count.get("sure", "")), "criterion": str(count.get("criterion", "")), "figure": drawn}
