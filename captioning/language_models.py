"""Language models of `t5`, `prefix` and `sep`, through transformers: found by name or folder, or made at random at a stated size.

The vocabulary of every captioner starts with <pad>, <start>, <end>, <unk> (captioning.vocabulary), so a pretrained model's rows are put in
the order of `Subwords.lm_ids` when its weights are read; a token that it lacks is never said. Weights are safetensors, never a pickle, and no
code of a model's folder runs.
"""

import functools
import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.fingerprint import file_sha256
from captioning.systems import SYSTEMS

FILES = (
    "config.json",
    "model.safetensors",
    "*.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)
CONTEXT = 1024  # positions of a random GPT-2, as its own


@dataclass(frozen=True)
class Language:
    """A language model before it is built. settings: Hugging Face's own configuration, as a dict.

    weights_sha256: of the weight files, "" for random ones. tokenizer_folder: None where the captioner's words are its tokens. kept: what a
    checkpoint kept of it (`to_dict`), in place of folders.
    """

    architecture: str
    name: str
    settings: dict
    weights_folder: Path | None = None
    weights_sha256: str = ""
    tokenizer_folder: Path | None = None
    kept: dict | None = None

    def vocabulary(self):
        """The tokenizer as a `Subwords`, or None. Raises BadInput: it does not fit the weights."""
        return None if self.tokenizer_folder is None else self._vocabulary

    @functools.cached_property
    def _vocabulary(self):
        from captioning.subwords import from_folder

        found = from_folder(self.tokenizer_folder, self.architecture)
        rows = self.settings["vocab_size"] if self.weights_folder is not None else math.inf
        if max(found.lm_ids) >= rows:
            raise BadInput(
                f"{self.tokenizer_folder}: the tokenizer has the token {max(found.lm_ids)}, the weights of {self.name} only {rows} rows; "
                "give the tokenizer that belongs to them"
            )
        return found

    @functools.cached_property
    def tensors(self) -> dict:
        """The weights under Hugging Face's names, rows in the order of our ids; none for a random model."""
        return {} if self.weights_folder is None else _read(self)

    @property
    def absent(self) -> list[int]:
        """Our ids that the language model has no token for; a random one learns rows for all."""
        if self.weights_folder is not None:
            return [ours for ours, theirs in enumerate(self._vocabulary.lm_ids) if theirs < 0]
        return self.kept["absent"] if self.kept else []

    @property
    def unembeds(self) -> bool:
        """It says words with a matrix of its own and not with its embedding's rows (T5 1.1)."""
        if self.weights_folder is not None:
            import torch

            embedding = self.tensors["shared.weight" if self.architecture == "t5" else "wte.weight"]
            return "lm_head.weight" in self.tensors and not torch.equal(self.tensors["lm_head.weight"], embedding)
        return bool(self.kept and self.kept["unembeds"])

    @property
    def identity(self) -> dict:
        """What of it a run id covers in place of RunConfig's fields of these names; empty where the configuration says all."""
        if self.kept:
            return self.kept["identity"]
        tokenizer = "" if self.tokenizer_folder is None else self._vocabulary.sha256
        facts = {"language_model": self.weights_sha256, "tokenizer": tokenizer}
        return {name: value for name, value in facts.items() if value}

    def to_dict(self) -> dict:
        """What a checkpoint keeps: enough to build it again and load its own weights."""
        fields = ("architecture", "name", "settings", "absent", "unembeds", "identity")
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def from_dict(cls, kept: dict) -> "Language":
        try:
            kept = {"absent": list(map(int, kept["absent"])), "unembeds": bool(kept["unembeds"]), "identity": dict(kept["identity"])} | kept
            return cls(kept["architecture"], kept["name"], dict(kept["settings"]), kept=kept)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"the checkpoint's language model is not described ({error}); copy the folder again") from error

    def never(self, vocabulary_size: int):
        """(V,) what is added to the logits: -inf at tokens that the language model does not have."""
        import torch

        bias = torch.zeros(vocabulary_size)
        bias[self.absent] = -torch.inf
        return bias


def locate_language(config: RunConfig, weights: str = "pretrained", fetch: bool = True) -> Language | None:
    """The language model of a configuration, None for a system without. weights: "pretrained", or a folder to look in.

    Raises BadInput: not to be had (with the ways out), a folder of another architecture, a tokenizer that is none.
    """
    architecture = SYSTEMS[config.system].architecture
    if not architecture:
        return None
    tokenizer = Path(config.tokenizer) if config.tokenizer else None
    if not config.language_model:
        return Language(architecture, "random", _random_settings(architecture, config), tokenizer_folder=tokenizer)
    folder = _find(config.language_model, weights, fetch)
    settings = _read_settings(folder, architecture, config.system)
    name = Path(config.language_model).name if Path(config.language_model).is_dir() else config.language_model
    return Language(architecture, name, settings, folder, _hash(folder), tokenizer or folder)


def _random_settings(architecture: str, config: RunConfig) -> dict:
    """Sizes of a random language model; all else is the architecture's own."""
    if architecture == "gpt2":
        return {"n_embd": config.width, "n_layer": config.layers, "n_head": config.heads, "n_positions": CONTEXT}
    return {
        "d_model": config.width,
        "d_kv": config.width // config.heads,
        "d_ff": 4 * config.width,
        "num_decoder_layers": config.layers,
        "num_heads": config.heads,
    }


def _read_settings(folder: Path, architecture: str, system: str) -> dict:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = settings["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: no Hugging Face folder: config.json is missing or damaged ({error})") from error
    if kind != architecture:
        raise BadInput(f"{folder}: holds a model of type {kind}, --system {system} wants {architecture}; give another --language-model")
    unusual = [k for k in ("scale_attn_by_inverse_layer_idx", "add_cross_attention") if settings.get(k)]
    if unusual or settings.get("scale_attn_weights") is False:
        raise BadInput(f"{folder}: its {(unusual or ['scale_attn_weights'])[0]} is not supported; give a plain {architecture}")
    return settings


def _find(name: str, weights: str, fetch: bool) -> Path:
    """The folder of a named model: the name itself, in the folder --weights names, in Hugging Face's cache, or fetched into it."""
    if Path(name).is_dir():
        return Path(name)
    if weights != "pretrained":
        place = Path(weights)
        tried = [place / name.replace("/", "--"), place / name, place / name.rsplit("/", 1)[-1]]
        for candidate in tried:
            if (candidate / "config.json").is_file():
                return candidate
        raise BadInput(
            f"--weights {weights}: no folder {tried[-1].name} with a language model is there; put one there (config.json, model.safetensors, "
            "tokenizer.json), name a folder by --language-model, or use --weights none for a random one"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        pass
    if not fetch:
        raise BadInput(f"weights of {name} are not here yet; running fetches them")
    try:
        from captioning.trunks import look_up

        look_up(ENDPOINT)
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # huggingface_hub raises a dozen kinds for "not reachable"; each has the same ways out
        raise BadInput(
            f"the language model {name} is neither in the Hugging Face cache nor to be fetched ({type(error).__name__}); three ways out: go "
            f"online and run again, --language-model DIR with its files, or --weights none for a random one"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise BadInput(
            f"{folder}: has no model.safetensors; pickled weights are never loaded: convert them with transformers' save_pretrained"
        )
    return files


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _weight_files(folder):
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def _read(language: Language) -> dict:
    """All tensors of the folder under GPT2LMHeadModel's or T5ForConditionalGeneration's names, embedding rows reordered."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = {}
    for path in _weight_files(language.weights_folder):
        try:
            state |= load_file(str(path))
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path}: not a whole safetensors file ({error}); fetch it again") from error
    # GPT-2's own files say "wte.weight", those of models trained with a head "transformer.wte.weight".
    state = {name.removeprefix("transformer."): tensor.float() for name, tensor in state.items()}
    if "shared.weight" not in state and "decoder.embed_tokens.weight" in state:
        state["shared.weight"] = state["decoder.embed_tokens.weight"]
    rows = torch.tensor(language.vocabulary().lm_ids)
    for name in ("wte.weight", "shared.weight", "lm_head.weight"):
        if name in state:
            found = state[name].index_select(0, rows.clamp_min(0))
            state[name] = found.masked_fill((rows < 0).unsqueeze(1), 0.0)
    return state


def gpt2_model(language: Language, vocabulary_size: int, dropout: float):
    """transformers' GPT2Model over our vocabulary."""
    from transformers import GPT2Config, GPT2Model

    own = {name: value for name, value in language.settings.items() if name in GPT2_SIZES}
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    ends = {"bos_token_id": None, "eos_token_id": None}  # of its own vocabulary
    model = GPT2Model(GPT2Config(**own, **drops, **ends, vocab_size=vocabulary_size, use_cache=False))
    if language.weights_folder is not None:
        if language.unembeds:
            raise BadInput(f"{language.weights_folder}: its output matrix is not its embedding's, as GPT-2's is; give a plain gpt2")
        _load(model, {n: t for n, t in language.tensors.items() if n != "lm_head.weight"}, language)
    return model


def t5_decoder(language: Language, vocabulary_size: int, dropout: float):
    """The decoder of transformers' T5ForConditionalGeneration over our vocabulary, with the embedding it shares."""
    from transformers import T5Config, T5ForConditionalGeneration

    own = {name: value for name, value in language.settings.items() if name in T5_SIZES}
    own.setdefault("num_decoder_layers", language.settings.get("num_layers"))
    # The encoder is not used: the image stands in for its output.
    settings = T5Config(**own, num_layers=1, dropout_rate=dropout, vocab_size=vocabulary_size, use_cache=False)
    stack = T5ForConditionalGeneration(settings).decoder
    if language.weights_folder is not None:
        tensors = {n.removeprefix("decoder."): t for n, t in language.tensors.items() if n.startswith("decoder.")}
        _load(stack, tensors | {"embed_tokens.weight": language.tensors["shared.weight"]}, language)
    return stack


GPT2_SIZES = ("n_embd", "n_layer", "n_head", "n_positions", "n_inner", "activation_function", "layer_norm_epsilon")
T5_SIZES = (
    "d_model", "d_kv", "d_ff", "num_decoder_layers", "num_heads", "feed_forward_proj", "layer_norm_epsilon",
    "relative_attention_num_buckets", "relative_attention_max_distance",
)  # fmt: skip


def _load(module, tensors: dict, language: Language) -> None:
    own = module.state_dict()
    misfits = [n for n, t in tensors.items() if n in own and own[n].shape != t.shape]
    missing = [n for n in own if n not in tensors]
    if misfits or missing:
        name = (misfits or missing)[0]
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        raise BadInput(f"{language.weights_folder}: {name} is {found}, its config.json asks for {tuple(own[name].shape)}; fetch it again")
    module.load_state_dict({n: t for n, t in tensors.items() if n in own})


def without_weights(config: RunConfig) -> RunConfig:
    """What --weights none makes of a configuration: a random encoder, and a random language model of the stated size."""
    return replace(config, pretrained=False, language_model="")
