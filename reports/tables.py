"""Tables of a report: written as CSV, Markdown and LaTeX, and handed to the page's template. No torch.

A cell is a text, a `Link`, a `Value` (with its interval), a `Published` number (with its mark and source, shown as a footnote) or a `Missing` one (with
its reason, a footnote too, never 0).
"""

import csv
import io
import string
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from captioning.atomic import atomic_write

SPLITS = {"val": "Validation", "test": "Test"}
MARKS = {"published": "P", "second-hand": "S", "derived": "D", "read in code": "C"}
MARKS_IN_WORDS = "P: published by its own authors; S: second-hand; D: derived from published numbers; C: read in code."


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its interval. note: what sets it apart from its column; `text` ends with it, and the CSV file has it in a column of its own."""

    value: float | int
    text: str
    low: float | None = None
    high: float | None = None
    digits: int = 1
    note: str = ""

    @property
    def interval(self) -> str:
        return "" if self.low is None else minus_sign(f"{self.low:.{self.digits}f} to {self.high:.{self.digits}f}")


@dataclass(frozen=True, slots=True)
class Missing:
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """A number that somebody published. mark: a key of `MARKS`; about: its source and what a reader must know to compare it."""

    value: float | str
    text: str
    mark: str
    about: str

    @property
    def letter(self) -> str:
        return MARKS[self.mark]


@dataclass(frozen=True, slots=True)
class Link:
    """A row's heading: a model's label, its record's place in the page ("" for none), and a note such as its seed."""

    label: str
    anchor: str = ""
    note: str = ""
    mean: bool = False

    @property
    def text(self) -> str:
        return f"{self.label}, {self.note}" if self.note else self.label


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    group: str = ""
    numeric: bool = True

    @property
    def name(self) -> str:
        return f"{self.group.split(',')[0]} {self.label}".strip()


@dataclass
class Table:
    """`rows` hold one cell per column; a row with fewer is one that failed: its last cell, the reason, runs across what is left."""

    slug: str
    title: str
    columns: list[Column]
    rows: list[list] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self):
        reasons = [cell.reason for row in self.rows for cell in row if isinstance(cell, Missing)]
        self.notes = list(dict.fromkeys(reasons))
        self.sources = list(dict.fromkeys(cell.about for row in self.rows for cell in row if isinstance(cell, Published)))
        if self.sources and MARKS_IN_WORDS not in self.remarks:
            self.remarks = [*self.remarks, MARKS_IN_WORDS]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group as (group, how many)."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group and column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def source_number(self, cell: Published) -> int:
        return 1 + self.sources.index(cell.about)

    def mark(self, cell: Missing) -> str:
        return self.mark_of(cell.reason)

    def mark_of(self, note: str) -> str:
        """The footnote's letter: a, b, ..., z, aa."""
        number, letters = self.notes.index(note), ""
        while True:
            letters = chr(97 + number % 26) + letters
            number = number // 26 - 1
            if number < 0:
                return letters

    def write(self, folder: Path) -> list[Path]:
        written = []
        for ending, text in {"csv": self.as_csv(), "md": self.as_markdown(), "tex": self.as_latex()}.items():
            path = folder / f"{self.slug}.{ending}"
            with atomic_write(path) as file:
                file.write(text)
            written.append(path)
        return written

    def as_csv(self) -> str:
        """Full precision; an interval's ends, a value's note, a published number's mark and source are columns of their own; what is missing is empty and
        its reason stands in the column `missing`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        more = [self._further(k) for k in range(len(self.columns))]
        writer.writerow([*(name for k, c in enumerate(self.columns) for name in (c.name, *(f"{c.name} {m}" for m in more[k]))), "missing"])
        for row in self.rows:
            failed = len(row) < len(self.columns)
            cells = [*row[:-1], *[""] * (len(self.columns) - len(row) + 1)] if failed else row
            missing = [str(row[-1])] if failed else []
            missing += [f"{self.columns[k].name}: {cell.reason}" for k, cell in enumerate(cells) if isinstance(cell, Missing)]
            line = [part for k, cell in enumerate(cells) for part in (_plain(cell), *(_FURTHER[name](cell) for name in more[k]))]
            writer.writerow([*line, "; ".join(missing)])
        return text.getvalue()

    def _further(self, k: int) -> list[str]:
        """What the CSV file says beside column k's values."""
        cells = [row[k] for row in self.rows if k < len(row)]
        intervals = ["low", "high"] if any(isinstance(cell, Value) and cell.low is not None for cell in cells) else []
        notes = ["note"] if any(isinstance(cell, Value) and cell.note for cell in cells) else []
        return intervals + notes + (["mark", "source"] if any(isinstance(cell, Published) for cell in cells) else [])

    def as_markdown(self) -> str:
        lines = [f"**{plain_markdown(self.title)}**", ""]
        lines += ["| " + " | ".join(plain_markdown(column.name) for column in self.columns) + " |"]
        lines += ["|" + "|".join("---:" if column.numeric else "---" for column in self.columns) + "|"]
        for row in self.rows:
            cells = [plain_markdown(self._shown(cell)) for cell in row]
            lines.append("| " + " | ".join(cells + [""] * (len(self.columns) - len(cells))) + " |")
        return "\n".join([*lines, "", *(plain_markdown(note) + "  " for note in self._all_notes()), ""])

    def as_latex(self) -> str:
        """A booktabs table; needs \\usepackage{booktabs}."""
        groups = [f"\\multicolumn{{{span}}}{{c}}{{{_plain_latex(group)}}}" if group else "" for group, span in self.groups]
        lines = ["\\begin{table}", f"\\caption{{{_plain_latex(self.title)}}}", "\\centering\\small"]
        lines += [f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in self.columns)}}}", "\\toprule"]
        if any(groups):
            lines.append(" & ".join(groups) + r" \\")
        lines += [" & ".join(_plain_latex(column.label) for column in self.columns) + r" \\", "\\midrule"]
        for row in self.rows:
            cells = [_plain_latex(self._shown(cell)) for cell in row]
            if len(row) < len(self.columns):
                cells[-1] = f"\\multicolumn{{{len(self.columns) - len(row) + 1}}}{{l}}{{{cells[-1]}}}"
            line = " & ".join(cells) + r" \\"
            lines.append("{}" + line if line.startswith(("[", "*")) else line)  # the \\ before it would take them for its own
        notes = [f"\\par\\footnotesize {_plain_latex(note)}" for note in self._all_notes()]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes, "\\end{table}", ""])

    def _shown(self, cell) -> str:
        if isinstance(cell, Value):
            return f"{cell.text} ({cell.interval})" if cell.interval else cell.text
        if isinstance(cell, Missing):
            return f"n/a {self.mark(cell)})"
        if isinstance(cell, Published):
            return f"{cell.text} {cell.letter}[{self.source_number(cell)}]"
        return str(getattr(cell, "text", cell))

    def _all_notes(self) -> list[str]:
        reasons = [f"{self.mark_of(note)}) not available: {note}" for note in self.notes]
        return reasons + [f"[{k}] {source}" for k, source in enumerate(self.sources, 1)] + self.remarks


_FURTHER = {
    "low": lambda cell: getattr(cell, "low", None),
    "high": lambda cell: getattr(cell, "high", None),
    "note": lambda cell: cell.note if isinstance(cell, Value) else None,
    "mark": lambda cell: getattr(cell, "mark", None),
    "source": lambda cell: getattr(cell, "about", None),
}


def _plain(cell):
    """A cell for a CSV file."""
    if isinstance(cell, Value | Published):
        return cell.value
    return "" if isinstance(cell, Missing) else getattr(cell, "text", cell)


def minus_sign(text: str) -> str:
    """A number's text with a typographer's minus."""
    return text.replace("-", "−")


def plain_markdown(text: str) -> str:
    text = " ".join(str(text).split())
    for character in "\\`*_[]<>|":
        text = text.replace(character, {"<": "&lt;", ">": "&gt;"}.get(character, "\\" + character))
    return text


# What pdfLaTeX must be told otherwise: characters of its own, and those outside ASCII, at most of which it stops.
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", **{c: f"\\{c}" for c in "&%$#_{}"},
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "÷": r"$\div$", "≥": r"$\geq$", "≤": r"$\leq$", "≠": r"$\neq$", "≈": r"$\approx$",
    "∞": r"$\infty$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "√": r"$\surd$", "°": r"$^\circ$", "µ": r"$\mu$", "μ": r"$\mu$",
    "σ": r"$\sigma$", "α": r"$\alpha$", "β": r"$\beta$", "Δ": r"$\Delta$", "¹": "$^1$", "²": "$^2$", "³": "$^3$", "½": r"$\frac12$",
    "–": "--", "—": "---", "‑": "-", "“": "``", "”": "''", "„": ",,", "‘": "`", "’": "'", "…": r"\ldots{}", "•": r"\textbullet{}", "§": r"\S{}",
    "©": r"\copyright{}", "®": r"\textregistered{}", "™": r"\texttrademark{}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "å": r"\aa{}", "Å": r"\AA{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u0308": '"', "\u030a": "r",
    "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip


def _plain_latex(text: str) -> str:
    """ASCII that any LaTeX sets: known signs as commands, accents on their letters, of any other character its number."""
    text = unicodedata.normalize("NFC", " ".join(str(text).split()))
    # Two hyphens would be set as a dash, and options of commands begin with them.
    return "".join("-{}" if pair == ("-", "-") else _in_latex(pair[0]) for pair in zip(text, f"{text} "[1:], strict=True))


def _in_latex(character: str) -> str:
    if character in _LATEX or " " <= character <= "~":
        return _LATEX.get(character, character)
    base, *marks = unicodedata.normalize("NFD", character)
    if len(marks) == 1 and marks[0] in _ACCENTS and base in string.ascii_letters:
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    return f"[U+{ord(character):04X}]"
