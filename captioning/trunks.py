"""Where an image encoder comes from: timm by name, the demo's own small ones, or a user's file; its weights, their hash, its preprocessing.

Weights are always a file whose SHA-256 is known: in a local folder, in the cache of the Hugging Face hub (of torch.hub for torchvision's own),
or fetched into it. `none` is random.
"""

import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from captioning import torchvision_weights
from captioning.bad_input import BadInput
from captioning.fingerprint import file_sha256

DEMO_PREFIX = "demo_"
FOLLOWS_SEED = "+seed"
DIGEST = "weights of this file: "  # before what the child of `_weights_of_users_file` prints
OWN = "own"  # convnext_femto.own: timm's architecture with weights of one's own, which no download stands for
ROOT = Path(__file__).resolve().parents[1]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Chance that the last block is left out for a picture in train mode; it rises from 0 block by block. arXiv:2201.03545 table 5, and what
# torchvision's models draw with, so the paper's code too. timm builds every model without unless told.
STOCHASTIC_DEPTH = {"convnext_tiny": 0.1, "convnext_small": 0.4, "convnext_base": 0.5, "convnext_large": 0.5}


@dataclass(frozen=True)
class Preprocessing:
    """What the encoder's weights expect: pictures of size x size pixels, scaled to 0..1, then (x - mean) / std per RGB channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize: str = "squash"

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class TrunkSource:
    """An encoder's birth certificate. `kind`: timm, torchvision, demo or file.

    `weights_sha256`: of the weight file; of the lasting tensors of what a user's file returns, for it may load any, with "+seed" behind it
    where others follow the seed; "none" for random weights.
    """

    name: str
    tag: str
    kind: str
    weights_path: Path | None
    weights_sha256: str
    file_sha256: str = ""

    @property
    def is_own(self) -> bool:
        """Weights of one's own, which nobody else can find by their name."""
        return is_own(self.tag)

    @property
    def follows_seed(self) -> bool:
        """Some of its tensors are random: they belong to the seed, not to the hash."""
        return self.weights_sha256 == "none" or self.weights_sha256.endswith(FOLLOWS_SEED)


def locate(encoder: str, pretrained: bool, weights: str = "pretrained", fetch: bool = True) -> TrunkSource:
    """Find an encoder's code and weights without building it.

    encoder: as in RunConfig. weights: "pretrained" (the hub's cache, or a download into it), "none", a file, or a folder.
    fetch: False never downloads. Raises BadInput: unknown name (the nearest are named), weights that are not to be had (with the three ways
    out), a user's file that fails.
    """
    if not pretrained:
        weights = "none"
    if ".py:" in encoder:
        source = users_file(encoder)
        return dataclasses.replace(source, weights_sha256=_weights_of_users_file(encoder, source.file_sha256))
    if encoder.startswith(DEMO_PREFIX):
        from captioning import demo_encoders

        check_name(encoder)
        if weights == "none":
            return TrunkSource(encoder, encoder, "demo", None, "none")
        path = demo_encoders.weights_path(encoder)
        if not path.is_file():
            raise BadInput(f"{path}: missing; make it with: python benchmarks/pretrain_demo.py --only {encoder}")
        return TrunkSource(encoder, encoder, "demo", path, file_sha256(path))
    tag = exact_tag(encoder)
    kind = "torchvision" if tag in torchvision_weights.ENUMERATIONS else "timm"
    if weights == "none":
        return TrunkSource(encoder, tag, kind, None, "none")
    path = _find_weights(tag, weights, fetch)
    sha256 = file_sha256(path)
    if kind == "torchvision":
        torchvision_weights.check_hash(tag, path, sha256)
    return TrunkSource(encoder, tag, kind, path, sha256)


def users_file(encoder: str, weights_sha256: str = "none") -> TrunkSource:
    """path/to/file.py:factory without running it; weights_sha256: what is known of its weights."""
    path, _, factory = encoder.rpartition(":")
    if not Path(path).is_file():
        raise BadInput(f"--encoder {encoder}: there is no file {path}; give path/to/file.py:factory")
    return TrunkSource(factory, encoder, "file", None, weights_sha256, file_sha256(path))


def check_name(encoder: str) -> None:
    """Raise BadInput unless it names a demo encoder or a timm model: no file of code, no folder, no hub address (timm would follow those)."""
    if encoder.startswith(DEMO_PREFIX):
        from captioning import demo_encoders

        if encoder not in demo_encoders.names():
            raise BadInput(f"--encoder {encoder}: no demo encoder of that name; there are {', '.join(demo_encoders.names())}")
    else:
        exact_tag(encoder)


def exact_tag(encoder: str) -> str:
    """timm's name with its weight tag: "deit_tiny_patch16_224" -> "deit_tiny_patch16_224.fb_in1k". A name without weights stays bare.

    NAME.own has weights of one's own. A bare name stands for timm's default, whatever that was trained on: captioning/weight_tags.py.
    torchvision's weights only come by full name.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name, _, tag = encoder.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(encoder, timm.list_models(), n=3, cutoff=0.3)
        raise BadInput(
            f"--encoder {encoder}: timm knows no such model; nearest: {', '.join(near) or 'none'}; or give path/to/file.py:factory"
        )
    if tag == OWN:
        return encoder
    if tag:
        known = timm.list_pretrained(f"{name}.*") + [t for t in torchvision_weights.ENUMERATIONS if t.partition(".")[0] == name]
        if encoder not in known:
            raise BadInput(f"--encoder {encoder}: {name} has no weights tagged {tag!r}; there are {', '.join(known) or 'none'}")
        return encoder
    config = get_pretrained_cfg(name)
    return f"{name}.{config.tag}" if config is not None and config.tag else name


def create_trunk(source: TrunkSource, image_size: int = 0, stochastic_depth: bool = False, head_norm: bool = False):
    """Build the module and load its weights. Returns (module with forward_features, Preprocessing with resize "squash").

    image_size: side in pixels, 0 for the encoder's own. stochastic_depth: a ConvNeXt draws in train mode as its recipe did. head_norm: the norm
    in the classifier head is used too, so the weights must hold it. Raises BadInput: weights that do not fit, a size the architecture refuses.
    """
    import torch

    if source.kind == "file":
        trunk = _run_users_file(source)
    elif source.kind == "demo":
        from captioning import demo_encoders

        trunk = demo_encoders.create(source.name, stochastic_depth)
    else:
        import timm

        name, _, tag = source.tag.partition(".")
        settings = {"img_size": image_size} if image_size and _takes_image_size(source.tag) else {}
        if stochastic_depth and name in STOCHASTIC_DEPTH:
            settings["drop_path_rate"] = STOCHASTIC_DEPTH[name]
        trunk = timm.create_model(name if source.kind == "torchvision" or tag == OWN else source.tag, pretrained=False, **settings)
    if source.weights_path is not None:
        _load(trunk, source, head_norm)
    if hasattr(trunk, "reset_classifier"):
        trunk.reset_classifier(0)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.requires_grad_(True)
    return trunk, _preprocessing(trunk, source, image_size)


def _preprocessing(trunk, source: TrunkSource, image_size: int) -> Preprocessing:
    if source.kind == "demo":
        from captioning import demo_encoders

        stated = demo_encoders.preprocessing(source.name)
    elif source.kind == "torchvision":
        stated = torchvision_weights.preprocessing(source.tag)
    elif isinstance(getattr(trunk, "preprocessing", None), dict):
        stated = trunk.preprocessing
    elif getattr(trunk, "pretrained_cfg", None):
        from timm.data import resolve_model_data_config

        stated = resolve_model_data_config(trunk)
        stated["size"] = stated["input_size"][-1]
    else:
        raise BadInput(
            f"--encoder {source.tag}: the module states no preprocessing; set .preprocessing = dict(size=, mean=, std=, interpolation=)"
        )
    try:
        return Preprocessing(
            size=image_size or int(stated["size"]),
            mean=tuple(float(v) for v in stated["mean"]),
            std=tuple(float(v) for v in stated["std"]),
            interpolation=stated.get("interpolation", "bicubic"),
        )
    except KeyError as error:
        raise BadInput(f"--encoder {source.tag}: its preprocessing lacks {error}; it needs size, mean, std") from error


def _run_users_file(source: TrunkSource):
    path, factory = source.tag.rsplit(":", 1)
    spec = importlib.util.spec_from_file_location(f"encoder_{source.file_sha256[:12]}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling inside the file look it up there
    try:
        spec.loader.exec_module(module)
        trunk = getattr(module, factory)() if hasattr(module, factory) else None
    except BadInput:
        raise
    except Exception as error:  # a user's file can fail in any way; what matters is which file and how
        raise BadInput(f"--encoder {source.tag}: {path} failed: {type(error).__name__}: {error}; mend that file") from error
    if trunk is None:
        raise BadInput(f"--encoder {source.tag}: {path} has no {factory!r} that returns a module")
    if not callable(getattr(trunk, "forward_features", None)):
        raise BadInput(f"--encoder {source.tag}: what {factory} returns has no forward_features(images)")
    return trunk


@functools.cache
def _weights_of_users_file(encoder: str, _file_sha256: str) -> str:
    """SHA-256 of those tensors of the module that a user's file returns which do not follow the seed; "none" if all that was learnt does.

    In a process of its own: run_all.py forks its runs from a parent in which no tensor operation may have run.
    """
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from captioning.trunks import print_weights; print_weights(sys.argv[1])"
    child = subprocess.run([sys.executable, "-c", code, encoder], capture_output=True, text=True, check=False)
    lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
    if child.returncode:
        said = lines[-1] if lines else f"ended with status {child.returncode}"
        raise BadInput(said.removeprefix("error: ") if child.returncode == 2 else f"--encoder {encoder}: {said}; mend that file")
    found = [line.removeprefix(DIGEST) for line in lines if line.startswith(DIGEST)]  # the file may print what it likes, before and after
    if not found:
        raise BadInput(f"--encoder {encoder}: the file left before its factory was called; mend that file")
    return found[-1]


def print_weights(encoder: str) -> None:
    """The child of `_weights_of_users_file`: prints what it returns."""
    import torch

    source = users_file(encoder)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        try:
            tensors = _run_users_file(source).state_dict()
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        found.append({n: t.detach().cpu().contiguous() for n, t in tensors.items()})
    lasting = {n: t for n, t in found[0].items() if torch.equal(t, found[1][n])}
    digest = hashlib.sha256()
    for name, tensor in lasting.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    if not any(t.is_floating_point() and t.unique().numel() > 1 for t in lasting.values()):
        print(f"\n{DIGEST}none")  # what is left are zeros and ones that every new module starts with
    else:
        print("\n" + DIGEST + digest.hexdigest() + (FOLLOWS_SEED if len(lasting) < len(found[0]) else ""))


def _takes_image_size(tag: str) -> bool:
    # ViTs and Swins keep a table of positions made for one size; timm resamples it when told the size at creation.
    return tag.startswith(("vit_", "deit", "swin", "beit", "eva", "cait", "xcit", "flexivit", "maxvit", "volo"))


def _find_weights(tag: str, weights: str, fetch: bool) -> Path:
    if weights != "pretrained":
        return _local_weights(tag, Path(weights))
    if is_own(tag):
        raise BadInput(f"--encoder {tag}: weights of your own; name them: --weights F.safetensors, or --weights none for random ones")
    if tag in torchvision_weights.ENUMERATIONS:
        return torchvision_weights.find(tag, fetch)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(tag)
    if config is None or not config.has_weights:
        raise BadInput(f"--encoder {tag}: timm has no pretrained weights for it; use --weights none or --weights FILE")
    repository = (config.hf_hub_id or f"timm/{tag}").rstrip("/")
    if repository == "timm":
        repository = f"timm/{tag}"
    name = config.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    if not fetch:
        raise BadInput(f"weights of {tag} are not here yet; running fetches them")
    try:
        look_up(ENDPOINT)
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # huggingface_hub raises a dozen kinds for "not reachable"; each has the same three ways out
        raise BadInput(
            f"weights of {tag} are neither in the Hugging Face cache nor to be fetched ({type(error).__name__}); three ways out: "
            f"go online and run again, --weights DIR with {tag}.safetensors in it, or --weights none for random weights"
        ) from error


def is_own(tag: str) -> bool:
    return tag.endswith(f".{OWN}")


def weights_are_here(tag: str, weights: str = "pretrained") -> bool:
    """Whether `locate` would find them without fetching; no file is read."""
    try:
        return weights == "none" or _find_weights(exact_tag(tag), weights, fetch=False).is_file()
    except BadInput:
        return False


def look_up(address: str) -> None:
    """Raise OSError at once where the hub's name does not resolve; huggingface_hub itself would try for half a minute. A proxy resolves it for us."""
    if not getproxies():
        socket.getaddrinfo(urlsplit(address).hostname, 443)


def _local_weights(tag: str, place: Path) -> Path:
    if place.is_file():
        return place
    if not place.is_dir():
        raise BadInput(f"--weights {place}: no such file or folder; give a folder with {tag}.safetensors, a file, or none")
    name = tag.partition(".")[0]
    tried = [f"{tag}.safetensors", f"{tag}/model.safetensors"]
    if tag in torchvision_weights.ENUMERATIONS:  # a bare name would be some timm weights of this architecture
        tried += [f"{tag}.pth", torchvision_weights.file_name(tag)]
    elif not is_own(tag):  # a bare name would be somebody's published ones
        tried += [f"{name}.safetensors", f"{name}/model.safetensors"]
    for candidate in tried:
        if (place / candidate).is_file():
            return place / candidate
    raise BadInput(
        f"--weights {place}: none of {', '.join(tried)} is there; three ways out: put one there, "
        "go online and use --weights pretrained, or --weights none for random weights"
    )


def _read_tensors(source: TrunkSource) -> dict:
    """Name -> float tensor, under timm's names. Of torchvision's weights a .pth is read too, tensors only: nothing in it can run."""
    if source.kind == "torchvision" and source.weights_path.suffix == ".pth":
        state = _read_pth(source.weights_path)
    else:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(str(source.weights_path))
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{source.weights_path}: not a whole safetensors file ({error}); fetch it again") from error
    state = {name: tensor.float() for name, tensor in state.items()}
    return torchvision_weights.to_timm(state) if source.kind == "torchvision" else state


def _read_pth(path: Path) -> dict:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        raise BadInput(f"{path}: cut, or not a file of tensors only ({type(error).__name__}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise BadInput(f"{path}: holds no state dict of tensors; give torchvision's own file")
    return state


def _load(trunk, source: TrunkSource, head_norm: bool) -> None:
    state = _read_tensors(source)
    # timm's own reshaping, among it positions resampled to another picture size.
    reshape = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    own = trunk.state_dict()
    if reshape is not None and any(n in own and own[n].shape != t.shape for n, t in state.items()):
        state = reshape(state, trunk)
    misfits = [n for n in state if n in own and own[n].shape != state[n].shape]
    if misfits:
        name = misfits[0]
        raise BadInput(
            f"{source.weights_path}: {name} is {tuple(state[name].shape)}, {source.tag} wants {tuple(own[name].shape)}; other weights?"
        )
    missing, unexpected = trunk.load_state_dict(state, strict=False)
    # A file without its classifier serves: only forward_features is used.
    head = ("head.", "head_drop.", "classifier.", "fc.", "pre_logits.", "conv_head.", "fc_norm.", "norm_head.")
    normless = [n for n in missing if head_norm and n.startswith("head.norm.")]
    if normless:
        raise BadInput(f"--final-norm: {source.weights_path} lacks {normless[0]}; give the weights with their classifier head")
    missing = [n for n in missing if not n.startswith(head) and not n.endswith("num_batches_tracked")]
    if missing:
        raise BadInput(f"{source.weights_path}: lacks {len(missing)} tensors of {source.tag}, first {missing[0]}; other weights?")
    if unexpected:
        raise BadInput(
            f"{source.weights_path}: has {len(unexpected)} tensors {source.tag} does not know, first {unexpected[0]}; other weights?"
        )
