"""The model card of a checkpoint: its README.md, with the metadata that the Hugging Face Hub reads, written from config.json and its run's record.

    python -m captioning.model_card CHECKPOINT
    python -m captioning.model_card CHECKPOINT --record results/flickr8k/runs/RUN.json

train.py writes one when a training ends, run_all.py writes it again with all scores. Equal files give equal bytes: no date and no path is in it.
Whatever has a name that somebody chose (a data set, a file, a run) is written as code, so that it is text and never markup.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, run_command
from captioning.checkpoint import read_description
from captioning.config import main_beam_of
from captioning.licences import ASK_THE_SOURCE, DATA, DISTILLED_HERE, LANGUAGE_MODEL_LICENCES, OWN_WEIGHTS, TIMM_LICENCES, DataLicence
from captioning.records import read_record
from captioning.systems import SYSTEMS
from captioning.trunks import is_own

CARD = "README.md"
# Our names of metrics -> the Hub's. The parts of the loss are no measure of captions and stay in the record.
METRICS = {f"BLEU-{n}": "bleu" for n in (1, 2, 3, 4)} | {"METEOR": "meteor", "ROUGE-L": "rouge", "CIDEr": "cider", "SPICE": "spice"}
PROTOCOLS = {
    "published": "argmax under teacher forcing, cut to the reference's length, one row a caption: what the replicated paper's code computes, "
    "and no measure of captions that a user would see",
    "free": "search over the model's own words, NLTK's corpus BLEU on the data set's own tokens",
    "coco": "search over the model's own words, coco-caption's scorers on PTB tokens",
}


@dataclass(frozen=True)
class Score:
    """One metric of one split under one protocol. beam: None under teacher forcing. interval: 95 %, low and high, or None."""

    split: str
    protocol: str
    beam: int | None
    metric: str
    value: float
    interval: list[float] | None
    signature: str


def write_card(folder: str | Path, record: dict | None = None, distilled: dict | None = None) -> Path:
    """Write the checkpoint's README.md by rename and return its path. record: of the run that made it; distilled: what `find_distilled` gives. Raises
    BadInput: no checkpoint, a record of other weights."""
    folder = Path(folder)
    text = make_card(read_description(folder), record, distilled)
    with atomic_write(folder / CARD) as file:
        file.write(text)
    return folder / CARD


def make_card(description: dict, record: dict | None = None, distilled: dict | None = None) -> str:
    """The card's text: YAML between two lines of ---, then Markdown. The same input gives the same text. Raises BadInput: a record of other weights,
    or one that lacks something."""
    if record is not None:
        _check_record(description, record)
    try:
        scores = scores_of(record) if record else scores_while_training(description)
        parts = [_what(description, record, distilled), _use(description), _measured(scores, record), _limits(description)]
        parts += [_licences(description, distilled)]
        return f"---\n{_metadata(description, scores)}\n---\n\n" + "\n\n".join(parts) + "\n"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        of = f"the record of {_plain(record['run_id'])}" if record else f"the config.json of {_plain(description['run_id'])}"
        raise BadInput(f"{of} lacks what a card says, or has it in another form ({error!r}); give one that ReCap wrote") from error


def _check_record(description: dict, record: dict) -> None:
    if record["status"] != "finished":
        raise BadInput(f"record {record['run_id']}: the run failed, so it has no scores; leave --record out")
    stated = record["files"].get("checkpoint")
    weights = stated.get("sha256") if isinstance(stated, dict) else None
    if record["run_id"] != description["run_id"] or weights != description["model_sha256"]:
        raise BadInput(
            f"record {record['run_id']}: not of this checkpoint ({description['run_id']}, weights {description['model_sha256'][:12]}); give "
            "the record of the run that made it"
        )


def scores_of(record: dict) -> list[Score]:
    """The metrics of captions that a record holds: test first, of `free` and `coco` every beam."""
    found = []
    for split in (split for split in ("test", "val") if split in record["scores"]):
        for protocol in PROTOCOLS:
            content = record["scores"][split].get(protocol, {})
            by_beam = {None: content} if "signature" in content else {int(beam): content[beam] for beam in sorted(content, key=int)}
            for beam, one in by_beam.items():
                for metric in METRICS:
                    if metric in one["scores"]:
                        interval = one["intervals"].get(metric)
                        found.append(Score(split, protocol, beam, metric, one["scores"][metric], interval, one["signature"]))
    return found


def scores_for_the_hub(scores: list[Score]) -> list[Score]:
    """Of the test split (of validation where that is all there is), and of each protocol the main beam: the Hub shows a list, not a table."""
    split = scores[0].split if scores else ""
    shown = [score for score in scores if score.split == split]
    beams = {protocol: {one.beam for one in shown if one.protocol == protocol and one.beam} for protocol in PROTOCOLS}
    return [score for score in shown if score.beam is None or score.beam == int(main_beam_of(beams[score.protocol]))]


def scores_while_training(description: dict) -> list[Score]:
    """BLEU-4 of the kept epoch, which is also what chose it: all there is until the run is scored."""
    stated = description.get("scores", {})
    kinds = {"val_bleu4_free": ("free", 1), "val_bleu4_published": ("published", None)}
    return [Score("val", *kinds[name], "BLEU-4", stated[name], None, "") for name in kinds if isinstance(stated.get(name), int | float)]


def _metadata(description: dict, scores: list[Score]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data, known = description["data"], _known_data(description)
    data_id = "recap-demo-scenes" if data["name"] == "demo" else _slug(data["name"])
    results = [
        EvalResult(
            task_type="image-to-text",
            task_name="Image captioning",
            dataset_type=data_id,
            dataset_name=_plain(known.title if known else data["name"]),
            dataset_split="validation" if score.split == "val" else score.split,
            dataset_args={"fingerprint": _plain(data["fingerprint"])},
            metric_type=METRICS[score.metric],
            metric_name=f"{score.metric} ({_protocol(score)})",
            metric_value=round(score.value, 2),
            metric_args=_metric_args(score),
        )
        for score in scores_for_the_hub(scores)
    ]
    licence, name, link = _licence(description)
    card = ModelCardData(
        language="en" if known else None,  # of somebody's own captions nobody knows it
        license=licence,
        license_name=name,
        license_link=link,
        library_name="recap",
        pipeline_tag="image-to-text",
        tags=["image-captioning", "recap", _slug(description["config"].get("system", "attend"))],
        datasets=[data_id],
        metrics=list(dict.fromkeys(METRICS[score.metric] for score in scores)),
        base_model=_base_models(description) or None,
        model_name=_plain(description["run_id"]) if results else None,
        eval_results=results or None,
    )
    return card.to_yaml(line_break="\n")


def _metric_args(score: Score) -> dict:
    found = {"protocol": score.protocol}
    found |= {"beam": score.beam} if score.beam else {}
    found |= {"confidence_interval_95": [round(bound, 2) for bound in score.interval]} if score.interval else {}
    return found | ({"signature": _plain(score.signature)} if score.signature else {})


def _licence(description: dict) -> tuple[str, str | None, str | None]:
    """What the Hub is told: an id, and where that is "other" a name and a link."""
    data, known = description["data"]["name"], _known_data(description)
    encoder = description["encoder"]
    own = encoder["kind"] == "demo" or encoder["weights_sha256"] == "none"
    if data == "demo" and own and _language_model(description) in ("", "random"):
        return "mit", None, None
    if known and known.name:
        return "other", known.name, known.link
    return "unknown", None, None


def _known_data(description: dict) -> DataLicence | None:
    name = description["data"]["name"]
    return DATA.get("coco" if re.fullmatch(r"coco\d{4}", name) else name)


def _language_model(description: dict) -> str:
    """Its name at the Hub or of its folder, "random", or "" where the system has none."""
    return _plain(description.get("language_model", {}).get("name", ""))


def _base_models(description: dict) -> list[str]:
    """What it was made from and the Hub is known to have."""
    encoder, language = description["encoder"], _language_model(description)
    named = encoder["kind"] == "timm" and encoder["weights_sha256"] != "none" and _timm_licence(encoder["tag"])
    found = [f"timm/{encoder['tag']}"] if named else []
    return found + ([language] if language in LANGUAGE_MODEL_LICENCES else [])


def _encoder_licence(encoder: dict) -> str:
    if encoder["weights_sha256"] == "none":
        return "none, it began at random"
    if encoder["kind"] == "demo":
        return "MIT, as ReCap"
    if encoder["kind"] == "torchvision":
        return "bsd-3-clause, torchvision's"
    if is_own(encoder["tag"]):
        return OWN_WEIGHTS
    if encoder["kind"] == "timm":
        return _timm_licence(encoder["tag"]) or ASK_THE_SOURCE
    return ASK_THE_SOURCE


def _timm_licence(tag: str) -> str:
    return next((licence for licence, tags in TIMM_LICENCES.items() if tag in tags), "")


def _what(description: dict, record: dict | None, distilled: dict | None) -> str:
    config, encoder, known = description["config"], description["encoder"], _known_data(description)
    system = str(config.get("system", "attend"))
    words = isinstance(description["vocabulary"], list)
    size = len(description["vocabulary"]) if words else description["vocabulary"]["size"]
    data = (
        f"{known.title} ({_code(description['data']['name'])})"
        if known
        else f"{_code(description['data']['name'])}, a data set of its maker's own"
    )
    language = _language_model(description)
    lines = [
        f"# {_code(description['run_id'])}",
        "",
        "An image captioner: a picture in, a sentence out. Trained with ReCap, a replication suite for image captioning.",
        "",
        f"- system: {_code(system)}; its source ({SYSTEMS[system].document}) has: {SYSTEMS[system].title}",
        *([f"- attention: {_code(config.get('attention', 'soft'))}"] if system == "attend" else []),
        f"- encoder: {_code(encoder['tag'])}; {_where_encoder(encoder)}",
        *([f"- its weights began as distilled ones: {_how_distilled(distilled)}"] if distilled else []),
        *([f"- language model: {_code(language)}; its weights are inside"] if language else []),
        f"- data: {data}, fingerprint {_code(description['data']['fingerprint'][:16])}",
        f"- it can say {size:,} {'words' if words else 'tokens'}, and at most {config['max_words']:,} in a caption",
        f"- weights of epoch {description['epoch']:,}, sha256 {_code(description['model_sha256'][:16])}",
    ]
    if record:
        images, captions, cost, code = record["data"]["images"], record["data"]["captions"], record["cost"], record["provenance"]
        lines += [
            f"- trained on {images['train']:,} images with {captions['train']:,} captions, {record['training']['epochs']:,} epochs in "
            f"{cost['train_seconds']:,.0f} s on {_code(cost['device'])}",
            f"- {record['model']['parameters']:,} parameters, {record['model']['trained_parameters']:,} of them trained; "
            f"{cost['images_per_second']:,.1f} images/s there, from pixels to captions at beam 5",
            f"- made by commit {_code(code['commit'] or 'not known')} of ReCap{', with changes' if code['dirty'] else ''}",
        ]
    return "\n".join(lines)


def _where_encoder(encoder: dict) -> str:
    if encoder["kind"] == "file":
        inside = "its weights are inside, its code is not" if encoder["stored"] else "neither its weights nor its code are inside"
        return f"{inside}: it is a Python file of its maker's, to be named by `--encoder path/to/file.py:FACTORY`"
    if encoder["stored"]:
        own = "; they are nobody's published ones, so it stands in for no encoder of the paper" if is_own(encoder["tag"]) else ""
        return f"its weights are inside{own}"
    return (
        "its weights are not inside but fetched by that name with `--download` or taken from `--weights DIR`, and compared with what they must give for one "
        f"fixed picture; the scores below are of a file with sha256 {_code(encoder['weights_sha256'][:16])}, and another copy of these weights, stored with other "
        "precision, has another"
    )


def _how_distilled(card: dict) -> str:
    """In words, from what benchmarks/distill.py wrote of it."""
    teachers = " and ".join(_code(teacher["name"]) for teacher in card["teachers"])
    data, settings = card["data"], card["settings"]
    return (
        f"taught to foretell the regions of {teachers}, which were trained on ImageNet's labels, from {data['photos']:,} training photographs of "
        f"{_code(data['name'])} in {settings['views']} views each, {settings['epochs']} epochs, without labels or captions of its own"
    )


def find_distilled(profile_folder: Path, description: dict) -> dict | None:
    """What benchmarks/distill.py wrote of the encoder weights that a checkpoint was trained from, in results/<profile>/distilled/; None where there is none.

    Raises BadInput: a file there that is none of its.
    """
    encoder = description["encoder"]
    for path in sorted((Path(profile_folder) / "distilled").glob("*.json")) if is_own(encoder["tag"]) else ():
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["sha256"] == encoder["weights_sha256"]:
                return card
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadInput(f"{path}: not what benchmarks/distill.py writes ({error}); take it away or make it again") from error
    return None


def _use(description: dict) -> str:
    encoder, line, argument = description["encoder"], "", ""
    if encoder["kind"] == "file":
        line, argument = " --encoder path/to/file.py:FACTORY", ', encoder="path/to/file.py:FACTORY"'
    elif not encoder["stored"]:
        line, argument = " --download", ", download=True"
    return f"""## Use

In a checkout of ReCap, with this folder or the name under which it lies at the Hub:

```bash
python caption.py --checkpoint hf:OWNER/NAME{line} --img photo.jpg
```

```python
from captioning import load_captioner

captioner = load_captioner("hf:OWNER/NAME"{argument})  # hf:OWNER/NAME@COMMIT stays what it is
(caption,) = captioner.caption(["photo.jpg"])
print(caption.text)
```

To share a checkpoint folder: `hf upload OWNER/NAME CHECKPOINT . --exclude state.pt`"""


def _measured(scores: list[Score], record: dict | None) -> str:
    lines = ["## Scores", ""]
    if not scores:
        return "\n".join([*lines, "None yet."])
    how = "Measured while training, without intervals; one of them chose the epoch."
    if record:
        sizes = " and ".join(f"{record['data']['images'][split]:,} of {split}" for split in dict.fromkeys(score.split for score in scores))
        how = f"In brackets the 95 % bootstrap interval over images, {sizes}."
    lines += [f"A score without its protocol is not a score. All are times 100. {how}", ""]
    lines += [
        "Scored captions may say `<unk>` for a word that the model does not know; those of `caption.py` do not, unless it is called with `--allow-unk`.",
        "",
    ]
    metrics = [metric for metric in METRICS if any(score.metric == metric for score in scores)]
    rows: dict[tuple, dict[str, str]] = {}
    for score in scores:
        interval = f" ({score.interval[0]:.1f} to {score.interval[1]:.1f})" if score.interval else ""
        rows.setdefault((score.split, _protocol(score)), {})[score.metric] = f"{score.value:.1f}{interval}"
    lines += [f"| split | protocol | {' | '.join(metrics)} |", f"|{'---|' * (len(metrics) + 2)}"]
    lines += [f"| {split} | {protocol} | {' | '.join(row.get(m, '') for m in metrics)} |" for (split, protocol), row in rows.items()]
    lines += ["", *(f"- {name}: {rule}" for name, rule in PROTOCOLS.items() if any(score.protocol == name for score in scores))]
    if record:
        lines += [f"- {_code(metric)} is not available: {_code(reason)}" for metric, reason in _not_available(record).items()]
        lines += ["", "How each was made:", ""]
        lines += [f"- {_code(signature)}" for signature in dict.fromkeys(score.signature for score in scores)]
    return "\n".join(lines)


def _protocol(score: Score) -> str:
    return f"{score.protocol}, beam {score.beam}" if score.beam else score.protocol


def _not_available(record: dict) -> dict[str, str]:
    found = {}
    for protocols in record["scores"].values():
        for content in protocols.values():
            for one in [content] if "signature" in content else content.values():
                found |= one["not_available"]
    return found


def _limits(description: dict) -> str:
    if description["data"]["name"] == "demo":
        knows = "It knows ReCap's drawn scenes only: of a photograph it says nonsense, and its scores say nothing about photographs."
    else:
        knows = (
            "It says what its training captions would say of a picture like theirs, prejudice included. Of other pictures it names things that are "
            "not there; it counts badly and does not read text. A caption is a guess: nobody's safety, health or rights should hang on it."
        )
    return f"## Limits\n\n{knows}"


def _licences(description: dict, distilled: dict | None) -> str:
    known, encoder, language = _known_data(description), description["encoder"], _language_model(description)
    lines = ["## Licences", "", "Known here by names alone: check that the data and weights of that name are what was used.", ""]
    lines += ["- ReCap's code: MIT"]
    source = f" ({known.link})" if known and known.link else ""
    lines += [f"- data, {_code(description['data']['name'])}: {known.terms if known else ASK_THE_SOURCE}{source}"]
    lines += [f"- encoder weights, {_code(encoder['tag'])}: {DISTILLED_HERE if distilled else _encoder_licence(encoder)}"]
    if language:
        licence = "none, it began at random" if language == "random" else LANGUAGE_MODEL_LICENCES.get(language, ASK_THE_SOURCE)
        lines += [f"- language model, {_code(language)}: {licence}"]
    if known and known.citation:
        lines += ["", f"Cite: {known.citation}."]
    return "\n".join(lines)


def _plain(text: object) -> str:
    """One line of printable characters, at most 300: no control characters, none that turn the direction of writing."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:300]


def _code(text: object) -> str:
    """As a span of code, whatever is in it: Markdown reads nothing between two runs of backticks longer than any inside."""
    text = _plain(text) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _slug(text: object) -> str:
    """A name as the Hub takes it in metadata."""
    return re.sub(r"[^a-z0-9._-]+", "-", str(text).lower()).strip("-._")[:96] or "unnamed"


def find_record(folder: str | Path) -> Path | None:
    """The record beside a checkpoint of run_all.py: <profile>/checkpoints/<run_id>/ -> <profile>/runs/<run_id>.json."""
    folder = Path(folder).resolve()
    path = folder.parent.parent / "runs" / f"{folder.name}.json"
    return path if folder.parent.name == "checkpoints" and path.is_file() else None


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m captioning.model_card",
        description="Write a checkpoint's model card (README.md) again, from its config.json and its run's record.",
        epilog="example: python -m captioning.model_card results/demo/checkpoints/RUN",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder that train.py or run_all.py wrote")
    parser.add_argument("--record", metavar="R", help="the record with its scores (default: the one beside it, where run_all.py put both)")
    options = parser.parse_args()
    read_description(options.checkpoint)  # a wrong folder is said before a wrong record
    path = options.record or find_record(options.checkpoint)
    distilled = find_distilled(Path(path).resolve().parents[1], read_description(options.checkpoint)) if path else None
    print(write_card(options.checkpoint, read_record(path) if path else None, distilled))


if __name__ == "__main__":
    run_command(main)
