"""Photographs from elsewhere, captioned and judged one by one: a table for the page, and photos.md, which lists every caption. No photo, no torch."""

import numpy as np

from captioning.bad_input import BadInput
from captioning.judged_photos import FILE, JUDGEMENTS, counts_of, read_photos
from captioning.statistics import interval, mean_of, resample
from reports.profile import Profile
from reports.scores import cell_of
from reports.tables import Column, Missing, Table, Value, plain_markdown

PAGE = "photos.md"


def photo_table(profile: Profile) -> tuple[Table | None, str, list[str]]:
    """(a row a captioner and set, photos.md's text, what could not be used); None and "" where nobody made the file."""
    path = profile.folder / FILE
    if not path.exists():
        return None, "", []
    try:
        content = read_photos(path)
    except BadInput as error:
        return None, "", [str(error).replace(f"{profile.folder}/", "")]
    scores = {(one["captioner"], one["set"]): one for one in content["scores"]}
    columns = [Column("Captioner", numeric=False), Column("Photographs", numeric=False), Column("n")]
    columns += [Column(judgement, "judged by looking at the photo") for judgement in (*JUDGEMENTS, "right or partly")]
    columns += [Column("CIDEr", "coco, beam 5")]
    rows = []
    for captioner in content["captioners"]:
        for set_ in dict.fromkeys(one["set"] for one in content["photos"]):
            counts = counts_of(content, captioner["name"], set_)
            n, scored = sum(counts.values()), scores.get((captioner["name"], set_))
            if not n:
                continue
            cells = [Value(n, str(n)), *(Value(counts[judgement], str(counts[judgement])) for judgement in JUDGEMENTS)]
            if counts.get("not judged"):
                cells.append(Missing(f"{counts['not judged']} captions are not judged yet"))
            else:
                cells.append(_share([counts["right"] + counts["partly"], counts["wrong"]]))
            rows.append([captioner["name"], set_, *cells, cell_of(scored, "CIDEr", "nobody wrote captions of these")])
    remarks = [
        "; ".join(f"{judgement}: {meaning}" for judgement, meaning in JUDGEMENTS.items())
        + ". Under the share its 95 % interval, from resampling the photographs."
    ]
    return Table("photos", "Photographs from elsewhere, judged one by one", columns, rows, remarks), _page(content), []


def _share(yes_and_no: list[int]) -> Value:
    share = mean_of("share", np.repeat([1.0, 0.0], yes_and_no), 100.0)
    (value,) = share.values().values()
    return Value(value, f"{value:.0f} %", *interval(resample([share])["share"]), digits=0)


def _page(content: dict) -> str:
    how = plain_markdown(content.get("how", "")).rstrip(".")
    lines = ["# Captions of photographs from elsewhere", ""]
    lines += [f"Each caption was judged by looking at its photo, which is not shown here{how and f': {how}'}.", ""]
    lines += [f"- {judgement}: {meaning}" for judgement, meaning in JUDGEMENTS.items()]
    for captioner in content["captioners"]:
        about = f"trained on {captioner['trained_on']}, {captioner['decode']}, weights {captioner['model']}"
        lines += ["", f"## {plain_markdown(captioner['name'])}", "", f"{plain_markdown(about)}."]
        for set_ in dict.fromkeys(one["set"] for one in content["photos"]):
            counts = counts_of(content, captioner["name"], set_)
            if not any(counts.values()):
                continue
            said = ", ".join(f"{count} {judgement}" for judgement, count in counts.items())
            lines += ["", f"### {plain_markdown(set_)}: {said}", "", "| photo | caption | judged | why |", "|---|---|---|---|"]
            for one in content["photos"]:
                if (one["captioner"], one["set"]) == (captioner["name"], set_):
                    cells = (one["photo"], one["caption"] or "(no words)", one["judged"] or "not judged", one["why"])
                    lines.append(f"| {' | '.join(map(plain_markdown, cells))} |")
    return "\n".join(lines) + "\n"
