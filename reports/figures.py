"""Figures of a report: matplotlib on the Agg canvas (no display), one style file, each saved as PNG and SVG beside the page. No torch.

`dots` draws scores with their intervals, `curves` something over epochs. `save` writes both files and gives back the SVG for the page, its ink
following the page's light or dark text colour.
"""

import io
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from captioning.atomic import atomic_write

STYLE = Path(__file__).with_name("recap.mplstyle")
INK = "#1f2328"  # the style file's text colour: in the page it becomes the page's own


@dataclass(frozen=True, slots=True)
class Point:
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    label: str
    look: int  # which colour and marker of the cycle; the same model keeps its own in every figure
    x: list[float]
    y: list[float]
    dashed: bool = False


def dots(title: str, unit: str, labels: list[str], series: dict[str, list[list[Point]]]) -> Figure:
    """Scores as dots with their intervals, one line per label from top to bottom; the series (validation, test) side by side on each line.

    A line holds a point per seed: several stand on each other, paler, so that what differs between seeds is seen beside what an interval says.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(4.2, 1.35 + 0.4 * len(labels)))
        figure.suptitle(title, x=0.01, horizontalalignment="left")
        axes = figure.add_subplot(xlabel=unit)
        looks = list(matplotlib.rcParams["axes.prop_cycle"])
        gap = 0.26 if len(series) > 1 else 0.0
        for k, (name, lines) in enumerate(series.items()):
            shift = (k - (len(series) - 1) / 2) * gap
            points = [(row + shift, point, len(line)) for row, line in enumerate(lines) for point in line]
            look = looks[k % len(looks)]
            for y, point, seeds in points:
                if point.low is not None:
                    axes.plot([point.low, point.high], [y, y], color=look["color"], alpha=1 / min(seeds, 3), linewidth=2, marker="")
            axes.plot(
                [point.value for _, point, _ in points],
                [y for y, _, _ in points],
                linestyle="",
                color=look["color"],
                marker=look["marker"],
                markerfacecolor=look["color"] if k == 0 else "white",
                label=name,
            )
        axes.set_yticks(range(len(labels)), [textwrap.fill(_short(label), 20) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=len(series))
    return figure


def curves(title: str, unit: str, lines: list[Curve]) -> Figure:
    """Something over epochs: one line per label, training dashed, validation solid. Curves of one label (seeds) are drawn as their mean in their range."""
    with matplotlib.style.context(STYLE):
        labels = list(dict.fromkeys(line.label for line in lines))
        columns = 2 if len(labels) > 1 and max(map(len, labels)) <= 18 else 1
        rows = -(-len(labels) // columns)
        figure = Figure(figsize=(4.2, 3.0 + 0.22 * rows))
        axes = figure.add_subplot(title=title, xlabel="epoch", ylabel=unit)
        looks = list(matplotlib.rcParams["axes.prop_cycle"])
        for label, dashed in dict.fromkeys((line.label, line.dashed) for line in lines):
            seeds = [line for line in lines if (line.label, line.dashed) == (label, dashed)]
            look, turn = looks[seeds[0].look % len(looks)], seeds[0].look // len(looks) % 3
            by_epoch: dict[float, list[float]] = {}
            for line in seeds:
                for x, y in zip(line.x, line.y, strict=True):
                    by_epoch.setdefault(x, []).append(y)
            x = sorted(by_epoch)
            if len(seeds) > 1 and not dashed:
                low, high = [min(by_epoch[k]) for k in x], [max(by_epoch[k]) for k in x]
                axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
            axes.plot(
                x,
                [sum(by_epoch[k]) / len(by_epoch[k]) for k in x],
                color=look["color"],
                marker="" if dashed or len(x) > 30 else look["marker"],
                linestyle="--" if dashed else ("-", "-.", ":")[turn],
                linewidth=1.1 if dashed else 1.8,
                label=None if dashed else _short(label),
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(loc="outside lower center", ncols=columns)
    return figure


def save(figure: Figure, folder: Path, slug: str) -> tuple[str, list[Path]]:
    """Write `folder`/<slug>.png and .svg; give back the SVG to stand in the page, and the paths. Equal figures give equal bytes."""
    with matplotlib.style.context(STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        figure.set_layout_engine("none")  # laid out by that draw; the SVG need not work it out again
        png, svg = io.BytesIO(), io.StringIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(
            png, format="PNG", dpi=(figure.dpi, figure.dpi), compress_level=4
        )
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    paths = [folder / f"{slug}.png", folder / f"{slug}.svg"]
    with atomic_write(paths[0], "wb") as file:
        file.write(png.getvalue())
    with atomic_write(paths[1]) as file:
        file.write(svg.getvalue())
    return _for_page(svg.getvalue(), slug), paths


def _for_page(svg: str, slug: str) -> str:
    """The bare <svg> element: text in the page's ink, white grounds gone, identifiers prefixed so that two figures of one page never share one."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="figure-{slug}-', svg)
    svg = re.sub(r'href="#', f'href="#figure-{slug}-', svg)
    svg = svg.replace("url(#", f"url(#figure-{slug}-")
    svg = svg.replace(INK, "currentColor").replace("fill: #ffffff", "fill: var(--page)")
    return re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", svg, count=1).replace(
        "<svg ", '<svg aria-hidden="true" focusable="false" ', 1
    )


def _short(label: str) -> str:
    return label if len(label) <= 38 else label[:37] + "…"
