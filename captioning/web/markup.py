"""The web demo's own HTML, as text. Whatever a person or a captioner wrote goes through `html.escape`: it is text, never markup.

Streamlit's own elements read Markdown (a file name like `[x](http://...)` would become a link, `:smile:` a picture), so they get fixed sentences only.
Colours are the theme's own, or dark on light that stands on any background.
"""

from collections.abc import Mapping, Sequence
from html import escape

STYLE = """<style>
.stMainBlockContainer { padding-top: 3.5rem; }
.recap-caption { font-size: 1.35rem; line-height: 1.5; margin: 0 0 0.25rem; overflow-wrap: anywhere; }
.recap-caption mark { background: #ffd54f; color: #1f2328; padding: 0 0.15em; border-radius: 0.2em; }
.recap-note { font-size: 0.9rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
.recap-bad { border-left: 0.3rem solid #d1242f; padding: 0.4rem 0.8rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
.recap-name { font-size: 1.1rem; font-weight: 600; margin: 0 0 0.5rem; padding: 0; overflow-wrap: anywhere; }
.recap-list { margin: 0; padding-left: 1.5rem; overflow-wrap: anywhere; }
.recap-scroll { overflow-x: auto; }
.recap-table { border-collapse: collapse; width: 100%; margin: 0 0 0.5rem; }
.recap-table caption { text-align: left; font-size: 0.9rem; padding-bottom: 0.3rem; }
.recap-table th, .recap-table td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem 0.3rem 0; border-bottom: 1px solid #8888; overflow-wrap: anywhere; }
.recap-table th { font-weight: 600; min-width: 5rem; }
.recap-table td.number, .recap-table th.number { text-align: right; font-variant-numeric: tabular-nums; }
.st-key-files-away { display: none; }
@media (max-width: 640px) { /* four examples in a row, so that the caption is not far below them */
  .st-key-examples { gap: 0.5rem; }
  .st-key-examples > div { width: calc(25% - 0.375rem) !important; flex: none; }
  .st-key-examples button { min-height: 2rem; padding: 0.1rem; }
  .st-key-examples button p { font-size: 0.75rem; }
}
</style>"""


def bad(sentence: str) -> str:
    """What cannot be used, and the way out; read out at once by a screen reader."""
    return f'<p class="recap-bad" role="alert">{escape(sentence)}</p>'


def note(sentence: str) -> str:
    return f'<p class="recap-note">{escape(sentence)}</p>'


def status(sentence: str) -> str:
    """A note that a screen reader reads out when it changes."""
    return f'<p class="recap-note" role="status">{escape(sentence)}</p>'


def name(text: str) -> str:
    """A checkpoint's or a photo's name as a heading of the second level."""
    return f'<h2 class="recap-name">{escape(text)}</h2>'


def caption(words: Sequence[str], marked: int | None = None) -> str:
    """A caption, one of its words marked. A caption without words says so."""
    if not words:
        return '<p class="recap-caption">(no words)</p>'
    parts = [f"<mark>{escape(word)}</mark>" if i == marked else escape(word) for i, word in enumerate(words)]
    return f'<p class="recap-caption">{" ".join(parts)}</p>'


def alternatives(captions: Sequence[tuple[str, float]]) -> str:
    """captions: (text, score in nats), best first."""
    rows = "".join(f"<li>{escape(text) or '(no words)'} ({score:.2f})</li>" for text, score in captions)
    return f'<ol class="recap-list">{rows}</ol>'


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """A table with a caption of its own and a header cell for every row and column. Numbers are right-aligned, with two digits."""
    numeric = [bool(rows) and all(isinstance(row[i], float) for row in rows) for i in range(len(columns))]
    kinds = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f'<th scope="col"{kind}>{escape(column)}</th>' for column, kind in zip(columns, kinds, strict=True))
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{_cell(value)}</td>" for value, kind in zip(rest, kinds[1:], strict=True))
        body += f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>'
    # A region that scrolls has to be reachable by keyboard.
    return (
        f'<div class="recap-scroll" role="region" aria-label="{escape(title)}" tabindex="0"><table class="recap-table">'
        f"<caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def scores(labels: Sequence[str], found: Sequence[Mapping[str, float]]) -> str:
    """labels: of the checkpoints; found: for each its scores by metric, the same metrics for all."""
    rows = [[metric, *(values[metric] for values in found)] for metric in found[0]]
    return table("Scores against your references, times 100", ["score", *labels], rows)


def _cell(value: str | float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else escape(value)
