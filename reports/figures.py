"""Figures of a report: matplotlib and seaborn on the Agg canvas (no display), one style file, each saved as PNG and SVG beside the page. No torch.

`dots` draws scores with their intervals, `curves` something over epochs, `scatter` a score against costs, `stacked` the parts of a sum. A figure comes to
`save` as a `functools.partial` of one of these with plain values: it is drawn again only where they have changed.
"""

import hashlib
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pandas
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image

from captioning.atomic import atomic_write

STYLE = Path(__file__).with_name("recap.mplstyle")
LABEL_WIDTH = 28  # characters in a line of a label
INK = "#1f2328"  # the style file's text colour: in the page it becomes the page's own


@dataclass(frozen=True, slots=True)
class Point:
    value: float
    low: float | None = None
    high: float | None = None


def dots(title: str, unit: str, labels: list[str], series: dict[str, list[list[Point]]]) -> Figure:
    """Scores as dots with their intervals, one line per label from top to bottom; the series (validation, test) side by side on each line.

    A line holds a point per seed: several stand on each other, paler, so that what differs between seeds is seen beside what an interval says.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(_width_for(labels), 1.35 + len(labels) * max(map(_height_of, labels), default=0.4)))
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
        _name_lines(axes, labels)
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=len(series))
    return figure


def curves(title: str, unit: str, rows: Sequence[Mapping]) -> Figure:
    """Something over epochs, one line per label: validation solid, training dashed. Lines of one label (seeds) are drawn as their mean in their range.

    rows: {"label", "look" (the model's place in the cycle of colours, its own in every figure), "epoch", "value", "dashed"} per point.
    """
    with matplotlib.style.context(STYLE):
        frame = pandas.DataFrame(rows)
        looks = frame.drop_duplicates("label").set_index("label")["look"]
        cycle = list(matplotlib.rcParams["axes.prop_cycle"])
        palette = {label: cycle[look % len(cycle)]["color"] for label, look in looks.items()}
        columns = 2 if len(looks) > 1 and max(map(len, looks.index)) <= 18 else 1
        figure = Figure(figsize=(4.2, 3.0 + 0.22 * -(-len(looks) // columns)))
        figure.suptitle(title, x=0.01, horizontalalignment="left")
        axes = figure.add_subplot()
        several = bool(frame.duplicated(["label", "epoch", "dashed"]).any())  # seeds; else there is nothing to average
        shared = {
            "estimator": "mean" if several else None,
            "x": "epoch",
            "y": "value",
            "hue": "label",
            "palette": palette,
            "errorbar": ("pi", 100),
            "ax": axes,
            "legend": False,
        }
        training, validation = frame[frame["dashed"]], frame[~frame["dashed"]]
        if len(training):
            seaborn.lineplot(training, **shared | {"errorbar": None}, linestyle="--", linewidth=1.1)
        markers = {label: cycle[look % len(cycle)]["marker"] for label, look in looks.items()}
        dashes = {label: ((), (4, 1.5, 1, 1.5), (1, 1))[look // len(cycle) % 3] for label, look in looks.items()}
        seaborn.lineplot(validation, **shared | {"legend": "brief"}, style="label", markers=markers, dashes=dashes)
        axes.set(xlabel="epoch", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend_below(figure, axes, columns)
    return figure


def scatter(title: str, unit: str, rows: Sequence[Mapping], sides: Mapping[str, str]) -> Figure:
    """A score with its interval against several costs, a panel each on a logarithmic axis; dots bear numbers, which a table explains.

    rows: {"number", "group", "value", "low", "high"} and a positive value for each of `sides`, {column: its name with its unit}.
    """
    with matplotlib.style.context(STYLE):
        frame = pandas.DataFrame(rows)
        groups = list(dict.fromkeys(frame["group"]))
        cycle = list(matplotlib.rcParams["axes.prop_cycle"])
        looks = {group: cycle[k % len(cycle)] for k, group in enumerate(groups)}
        figure = Figure(figsize=(4.2 * len(sides), 3.4 + 0.2 * -(-len(groups) // 4)))
        figure.suptitle(title, x=0.01, horizontalalignment="left")
        for k, (column, label) in enumerate(sides.items(), 1):
            axes = figure.add_subplot(1, len(sides), k)
            axes.vlines(
                frame[column], frame["low"], frame["high"], colors=[looks[g]["color"] for g in frame["group"]], alpha=0.5, linewidth=1.5
            )
            colors, markers = ({g: look[what] for g, look in looks.items()} for what in ("color", "marker"))
            places = {"x": column, "y": "value", "hue": "group", "style": "group"}
            seaborn.scatterplot(frame, **places, palette=colors, markers=markers, s=42, ax=axes, legend="brief" if k == 1 else False)
            for row in frame.to_dict("records"):
                axes.annotate(str(row["number"]), (row[column], row["value"]), xytext=(4, 4), textcoords="offset points", fontsize=8)
            axes.set(xscale="log", xlabel=label, ylabel=unit if k == 1 else "")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        _legend_below(figure, figure.axes[0], min(4, len(groups)))
    return figure


def stacked(title: str, unit: str, labels: Sequence[str], parts: Sequence[str], bars: Sequence[Sequence[float]], ends: Sequence) -> Figure:
    """Sums as bars of their parts, from top to bottom; ends: each sum's interval (low, high) or None."""
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(4.2, 1.6 + 0.42 * len(labels)))
        figure.suptitle(title, x=0.01, horizontalalignment="left")
        axes = figure.add_subplot(xlabel=unit)
        looks, start = list(matplotlib.rcParams["axes.prop_cycle"]), np.zeros(len(labels))
        for k, part in enumerate(parts):
            widths = np.array([bar[k] for bar in bars])
            axes.barh(
                range(len(labels)),
                widths,
                0.55,
                left=start,
                color=looks[k]["color"],
                label=part,
                edgecolor="white",
                hatch=("", "//", "..")[k % 3],
            )
            start += widths
        for y, pair in enumerate(ends):
            if pair:
                axes.plot(pair, [y, y], color=INK, linewidth=2, marker="|")
        _name_lines(axes, labels)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The axes' legend, moved under the figure."""
    handles, labels = axes.get_legend_handles_labels()
    axes.get_legend().remove()
    figure.legend(handles, [_short(label) for label in labels], loc="outside lower center", ncols=columns)


def _name_lines(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [_wrapped(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _wrapped(label: str) -> str:
    return textwrap.fill(_short(label, 96), LABEL_WIDTH)


def _width_for(labels: Sequence[str]) -> float:
    """Inches: long labels take room from the axes."""
    return 4.2 if max(map(len, labels), default=0) <= LABEL_WIDTH else 5.2


def _height_of(label: str) -> float:
    """Inches that a line with this label needs."""
    return max(0.4, 0.19 * (1 + _wrapped(label).count("\n")))


def save(drawing: partial, folder: Path, slug: str) -> tuple[str, list[Path]]:
    """Write `folder`/<slug>.png and .svg; give back the SVG to stand in the page, and the paths. Equal figures give equal bytes.

    The SVG ends with a hash of what it was drawn from: files that an earlier build drew from the same are kept.
    """
    paths = [folder / f"{slug}.png", folder / f"{slug}.svg"]
    ending = f"<!-- drawn from {_hash_of(drawing)} -->\n"
    if not all(path.exists() for path in paths) or not paths[1].read_text(encoding="utf-8").endswith(ending):
        png, svg = _draw(drawing())
        with atomic_write(paths[0], "wb") as file:
            file.write(png)
        with atomic_write(paths[1]) as file:
            file.write(svg + ending)
    return _for_page(paths[1].read_text(encoding="utf-8"), slug), paths


def _hash_of(drawing: partial) -> str:
    content = repr((drawing.func.__name__, drawing.args, sorted(drawing.keywords.items()), _tools()))
    return hashlib.sha256(content.encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def _tools() -> tuple[str, ...]:
    """What else a figure depends on: this file, the style, the libraries."""
    return (*(path.read_text(encoding="utf-8") for path in (Path(__file__), STYLE)), matplotlib.__version__, seaborn.__version__)


def _draw(figure: Figure) -> tuple[bytes, str]:
    with matplotlib.style.context(STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        figure.set_layout_engine("none")  # laid out by that draw; the SVG need not work it out again
        png, svg = io.BytesIO(), io.StringIO()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        image.save(png, format="PNG", dpi=(figure.dpi, figure.dpi), compress_level=4)
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), svg.getvalue()


def _for_page(svg: str, slug: str) -> str:
    """The bare <svg> element: text in the page's ink, white grounds gone, identifiers prefixed so that two figures of one page never share one."""
    svg = svg[svg.index("<svg") : svg.rindex("</svg>") + len("</svg>")]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="figure-{slug}-', svg)
    svg = re.sub(r'href="#', f'href="#figure-{slug}-', svg)
    svg = svg.replace("url(#", f"url(#figure-{slug}-")
    svg = svg.replace(INK, "currentColor").replace("fill: #ffffff", "fill: var(--page)")
    return re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", svg, count=1).replace(
        "<svg ", '<svg aria-hidden="true" focusable="false" ', 1
    )


def _short(label: str, longest: int = 56) -> str:
    return label if len(label) <= longest else label[: longest - 1] + "…"
