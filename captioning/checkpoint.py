"""A checkpoint is a folder: model.safetensors, config.json and, for resuming, state.pt (read with weights_only=True). Never a pickled module.

config.json holds the words of the vocabulary, or, of subwords, the hash of the tokenizer.json that lies beside it.

An encoder that was fetched from elsewhere and stayed as it was (frozen, no statistics that drift) is not stored: config.json holds its exact
tag and hash, model.safetensors the regions of one fixed drawn picture, and loading compares those: a differently rounded copy of the same
weights passes, another net is an error.

A finished checkpoint has a README.md too, its model card (captioning/model_card.py), which nothing reads when it is loaded.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.subwords import FILE, Subwords
from captioning.systems import SYSTEMS
from captioning.vocabulary import Vocabulary

SCHEMA = 1
# Schema of config.json -> what makes its content (a dict) that of the next schema. An older checkpoint is read through all from its own on, so
# that whoever raises SCHEMA adds the one line from the schema before.
CONVERTERS: dict[int, Callable[[dict], dict]] = {}
PICKLES = (".tar", ".pth", ".pt", ".pkl", ".bin")
PROBE = "probe.regions"
DATA_FIELDS = {"name": str, "fingerprint": str}
ENCODER_FIELDS = {"name": str, "tag": str, "kind": str, "weights_sha256": str, "file_sha256": str, "grid": list, "dim": int, "stored": bool}
# Relative distance of the probe's regions: rounding weights to fp16 gives about 1e-3, another net about 1.
PROBE_TOLERANCE = 0.05


def probe_picture(size: int) -> np.ndarray:
    """The fixed drawn picture, uint8 (size,size,3): gradients, stripes and a disc, in integer arithmetic."""
    y, x = np.mgrid[0:size, 0:size] * 256 // size
    picture = np.stack([x, y, (x * y // 64) % 256], -1)
    picture[(x // 32 + y // 16) % 3 == 0] //= 2
    picture[(x - 96) ** 2 + (y - 144) ** 2 < 64**2] = (230, 60, 40)
    return picture.astype(np.uint8)


def probe_regions(encoder):
    """Regions (R,D) of the fixed picture, in eval mode on the encoder's device."""
    import torch

    picture = torch.from_numpy(probe_picture(encoder.preprocessing.size)).unsqueeze(0).to(encoder.mean.device)
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        regions = encoder(encoder.scale(picture))[0].cpu()
    encoder.train(training)
    return regions


def save_checkpoint(folder: Path, model, config: RunConfig, vocabulary: Vocabulary | Subwords, facts: dict) -> None:
    """Write model.safetensors, config.json and the tokenizer.json of subwords, all complete before one is renamed.

    facts: run_id, data, epoch, scores and the like.
    """
    from safetensors.torch import save

    encoder = model.encoder
    fetched = encoder.source.kind in ("timm", "torchvision", "file") and not encoder.source.follows_seed and not encoder.source.is_own
    stored = not (encoder.frozen and fetched and not encoder.drifts)
    tensors = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if stored or not n.startswith("encoder.")}
    if config.half_weights:
        tensors = {n: _halved(t, exactly=encoder.frozen and n.startswith("encoder.")) for n, t in tensors.items()}
    if not stored:
        tensors[PROBE] = probe_regions(encoder).half().contiguous()
    weights = save(tensors)
    description = {
        "schema": SCHEMA,
        **facts,
        "config": settings(config),
        "vocabulary": _describe_vocabulary(vocabulary),
        "preprocessing": encoder.preprocessing.to_dict(),
        "encoder": {
            "name": encoder.source.name,
            "tag": encoder.source.tag if encoder.source.kind != "file" else encoder.source.name,
            "kind": encoder.source.kind,
            "weights_sha256": encoder.source.weights_sha256,
            "file_sha256": encoder.source.file_sha256,
            "grid": list(encoder.grid),
            "dim": encoder.dim,
            "stored": stored,
        },
        "model_sha256": hashlib.sha256(weights).hexdigest(),
    }
    language = getattr(model.decoder, "language_config", None)
    if language is not None:
        description["language_model"] = language
    with contextlib.ExitStack() as files:  # renamed in reverse, config.json last
        text = files.enter_context(atomic_write(folder / "config.json"))
        text.write(json.dumps(description, indent=1, ensure_ascii=False))
        text.flush()  # a full disk shows here, before anything is renamed
        if not vocabulary.has_words:
            tokenizer = files.enter_context(atomic_write(folder / FILE))
            tokenizer.write(vocabulary.to_json())
            tokenizer.flush()
        files.enter_context(atomic_write(folder / "model.safetensors", "wb")).write(weights)


def _halved(tensor, exactly: bool):
    """In fp16, unless a number gets lost in it. exactly: unless any number would change, for the regions that are kept were made before."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    back = half.to(tensor.dtype)
    good = (back == tensor).all() if exactly else (back.isfinite() == tensor.isfinite()).all()
    return half if good else tensor


def _describe_vocabulary(vocabulary: Vocabulary | Subwords) -> list | dict:
    if vocabulary.has_words:
        return list(vocabulary.words)
    return {"tokenizer": FILE, "sha256": vocabulary.sha256, "size": len(vocabulary)}


def settings(config: RunConfig) -> dict:
    """A configuration as it is written down: of a user's files and folders the name only, for where they lie is nobody's business."""
    fields = dataclasses.asdict(config)
    if ".py:" in config.encoder:
        fields["encoder"] = Path(config.encoder).name
    if Path(config.language_model).is_dir():  # else a name at Hugging Face; "" is a folder too, without a name
        fields["language_model"] = Path(config.language_model).name
    fields["tokenizer"] = Path(config.tokenizer).name
    return fields


def mark_finished(folder: Path) -> None:
    """Note in config.json that the training came to its end: without its state.pt, too, it is then known as done."""
    description = read_description(folder)
    if not description.get("finished"):
        with atomic_write(folder / "config.json") as text:
            text.write(json.dumps(description | {"finished": True}, indent=1, ensure_ascii=False))


def read_description(folder: str | Path) -> dict:
    """config.json of a checkpoint, checked. Raises BadInput that says what is wrong with the folder."""
    folder = Path(folder)
    if folder.is_file():
        raise BadInput(f"{folder}: a checkpoint is a folder with config.json and model.safetensors; pickled checkpoints are never loaded")
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such checkpoint; train one with: python train.py --data DIR, or python benchmarks/run_all.py")
    path = folder / "config.json"
    if not path.is_file():
        pickles = [p.name for p in folder.iterdir() if p.suffix in PICKLES and p.name != "state.pt"]
        reason = f"holds {pickles[0]}, a pickle; those are never loaded" if pickles else "has no config.json"
        if (folder / "state.pt").exists():
            reason = "holds a training that has not finished its first epoch"
        raise BadInput(f"{folder}: {reason}; give a folder that train.py wrote")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        schema = description["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{path}: cut or not a checkpoint's ({error}); copy the folder again") from error
    description = _convert(description, schema, path)
    missing = [name for name in ("run_id", "data", "config", "vocabulary", "encoder", "model_sha256") if name not in description]
    if missing:
        raise BadInput(f"{path}: has no {missing[0]!r}, so it is no checkpoint of ReCap; give a folder that train.py wrote")
    wanted = {"run_id": str, "config": dict, "encoder": dict, "preprocessing": dict, "data": dict, "model_sha256": str}
    wanted |= {"vocabulary": (list, dict)} | ({"language_model": dict} if "language_model" in description else {})
    wrong = [name for name, kind in wanted.items() if not isinstance(description.get(name), kind)]
    if isinstance(description["vocabulary"], dict) and not {"tokenizer", "sha256", "size"} <= description["vocabulary"].keys():
        wrong.append("vocabulary")
    if isinstance(description["vocabulary"], list) and not all(isinstance(word, str) for word in description["vocabulary"]):
        wrong.append("vocabulary")
    for part, fields in {"data": DATA_FIELDS, "encoder": ENCODER_FIELDS}.items():
        wrong += [f"{part}.{name}" for name, kind in fields.items() if not wrong and not isinstance(description[part].get(name), kind)]
    if wrong:
        raise BadInput(f"{path}: {wrong[0]!r} is missing or of another type; copy the folder again")
    return description


def _convert(description: dict, schema: object, path: Path) -> dict:
    """A description of any schema that has a way to ours -> of ours. Raises BadInput that says what to do where there is none."""
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise BadInput(f"{path}: cut or not a checkpoint's (schema {schema!r:.40}); copy the folder again")
    if schema > SCHEMA:
        raise BadInput(f"{path}: checkpoint schema {schema}, this version reads {SCHEMA}; a newer ReCap wrote it: update ReCap (git pull)")
    for older in range(schema, SCHEMA):
        if older not in CONVERTERS:
            raise BadInput(
                f"{path}: checkpoint schema {schema}, this version reads {SCHEMA} and has no way there from {older}; train it again, or use the "
                "version of ReCap that wrote it"
            )
        try:
            description = CONVERTERS[older](description) | {"schema": older + 1}
        except (LookupError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}: cut or not a checkpoint's of schema {older} ({error!r}); copy the folder again") from error
    return description


def load_checkpoint(folder: str | Path, build_model: Callable, weights: str = "pretrained", encoder: str = "", download: bool = False):
    """Build the model of a checkpoint and load its weights: (CaptionModel in eval mode on the CPU, Vocabulary or Subwords, description).

    build_model: models.build_model, handed in because this package stands below models.py. weights: where an encoder that is not stored
    comes from (--weights). encoder: path/to/file.py:factory, needed where the checkpoint was made with a user's own encoder: that file runs,
    so it must be named here, never by the checkpoint. download: such an encoder's published weights may be fetched.
    """
    folder = Path(folder)
    description = read_description(folder)
    config = config_from(description["config"], folder)
    tensors = _read_weights(folder, description)
    vocabulary = _read_vocabulary(folder, description["vocabulary"])
    from captioning.trunks import TrunkSource, check_name, users_file

    stated = description["encoder"]
    if stated["kind"] != "file":
        check_name(stated["tag"])  # a checkpoint from elsewhere names models we know, never a file to run or a place to fetch from
    if stated["kind"] == "file":
        if not encoder:
            raise BadInput(
                f"{folder}: made with the encoder {stated['name']} of a Python file; name it: --encoder path/to/file.py:{stated['name']}"
            )
        config = dataclasses.replace(config, encoder=encoder)
        source = users_file(encoder, stated["weights_sha256"])  # whether it still gives those weights is for the probe to say
    elif stated["stored"]:
        # The weights come from this folder, so nothing is looked for elsewhere; the hash stays, for kept regions go by it.
        source = TrunkSource(stated["name"], stated["tag"], stated["kind"], None, stated["weights_sha256"], stated["file_sha256"])
    else:
        source = _locate_stated(folder, stated["tag"], config.pretrained, weights, download)
    if SYSTEMS[config.system].architecture and "language_model" not in description:
        raise BadInput(f"{folder}: config.json has no 'language_model', which {config.system} needs; copy the folder again")
    language = {"language": description["language_model"]} if "language_model" in description else {}
    model = build_model(config, len(vocabulary), source=source, **language)
    _load_tensors(model, tensors, folder, stated["stored"])
    model.eval()
    if not stated["stored"]:
        _compare_probe(model.encoder, tensors[PROBE], folder, stated)
    return model, vocabulary, description


def _locate_stated(folder: Path, tag: str, pretrained: bool, weights: str, download: bool):
    from captioning.trunks import is_own, locate, weights_are_here

    try:
        return locate(tag, pretrained, weights, fetch=download)
    except BadInput as error:
        if download or weights != "pretrained" or is_own(tag) or weights_are_here(tag):
            raise
        raise BadInput(
            f"{folder}: the weights of its encoder {tag} are not on this machine, and nothing is fetched unasked; --download fetches them once "
            "(from Python: download=True), --weights DIR says where they lie"
        ) from error


def config_from(fields: dict, where: Path) -> RunConfig:
    try:
        return RunConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    except TypeError as error:
        raise BadInput(f"{where}: its settings are of another version ({error}); use the version of ReCap that wrote it") from error


def _read_weights(folder: Path, description: dict) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / "model.safetensors"
    if not path.is_file():
        raise BadInput(f"{folder}: has no model.safetensors; copy the folder again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != description["model_sha256"]:
        raise BadInput(
            f"{path}: not the file that config.json describes (cut, changed, or killed while saving); copy it again or resume its training"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file ({error}); copy it again") from error


def _read_vocabulary(folder: Path, stated: list | dict) -> Vocabulary | Subwords:
    if isinstance(stated, list):
        return Vocabulary(tuple(stated))
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{folder}: has no {FILE}; copy the folder again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != stated["sha256"]:
        raise BadInput(f"{path}: not the file that config.json describes (cut, changed, or killed while saving); copy it again")
    return Subwords.from_json(content.decode("utf-8", "replace"), path)


def _load_tensors(model, tensors: dict, folder: Path, stored: bool) -> None:
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name != PROBE and (name not in own or own[name].shape != tensor.shape):
            expected = tuple(own[name].shape) if name in own else "nothing of that name"
            raise BadInput(
                f"{folder}: {name} is {tuple(tensor.shape)}, the model wants {expected}; the folder's files are not of one model"
            )
    missing = [n for n in own if n not in tensors and (stored or not n.startswith("encoder."))]
    missing += [] if stored or PROBE in tensors else [PROBE]
    if missing:
        raise BadInput(f"{folder}: lacks {len(missing)} tensors, first {missing[0]}; the folder's files are not of one model")
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items() if n != PROBE}, strict=False)


def _compare_probe(encoder, expected, folder: Path, stated: dict) -> None:
    found, expected = probe_regions(encoder), expected.float()
    if found.shape != expected.shape:
        raise BadInput(f"{folder}: its encoder gave regions {tuple(expected.shape)}, {encoder.source.tag} here gives {tuple(found.shape)}")
    distance = float((found - expected).norm() / expected.norm().clamp(min=1e-12))
    if not distance <= PROBE_TOLERANCE:
        own = stated["kind"] == "file"
        weights = f"of a file {stated['file_sha256'][:12]}" if own else f"with weights {stated['weights_sha256'][:12]}"
        way_out = "name the same file with the same weights: --encoder" if own else "give the same weights: --weights DIR or FILE"
        raise BadInput(
            f"{folder}: trained on {stated['tag']} {weights}; the encoder found here gives other regions (distance {distance:.2f}); {way_out}"
        )


def save_state(path: Path, state: dict) -> None:
    """state.pt, whole or not at all. It is made in memory first, so that a full disk is an OSError that names the file."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def load_state(path: Path) -> dict:
    """What `save_state` wrote: tensors, numbers, strings, lists and dicts only."""
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not {"run_id", "world", "model", "optimiser", "processes"} <= state.keys():
            raise ValueError("not a training state")
        return state
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        raise BadInput(f"{path}: cut or not a training state of ReCap; delete the folder {path.parent} to train from the start") from error
