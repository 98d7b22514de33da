"""Language models of `t5`, `prefix` and `sep`, through transformers: found by name or folder, or made at random at a stated size.

The vocabulary of every captioner starts with <pad>, <start>, <end>, <unk> (captioning.vocabulary), so a pretrained model's rows are put in
the order of `Subwords.lm_ids` when its weights are read; a token that it lacks is never said. Weights are safetensors, never a pickle, and no
code of a model's folder runs.
"""

import contextlib
import functools
import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.fingerprint import file_sha256
from captioning.language_settings import read_config, used_settings
from captioning.systems import SYSTEMS
from captioning.vocabulary import END

WEIGHTS = ("model.safetensors", "model-*.safetensors", "*.safetensors.index.json")
FILES = ("config.json", *WEIGHTS, "tokenizer.json", "vocab.json", "merges.txt")
CONTEXT = 1024  # positions of a random GPT-2, as its own
EMBEDDINGS = {"gpt2": ("wte.weight",), "t5": ("shared.weight", "decoder.embed_tokens.weight")}
END_ID = {"gpt2": 50256, "t5": 1}  # where config.json does not state eos_token_id
# Masks kept as tensors, and a bias of T5's first files that nothing reads: transformers leaves them out too.
UNREAD = re.compile(r"h\.\d+\.attn\.(masked_)?bias|block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight")


@dataclass(frozen=True)
class Language:
    """A language model before it is built. settings: those of Hugging Face's own configuration that are used.

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
        misfit = "" if self.weights_folder is None else self._misfit(found)
        if misfit:
            raise BadInput(f"{self.tokenizer_folder}: {misfit}; give the tokenizer that belongs to them")
        return found

    def _misfit(self, found) -> str:
        """Why a tokenizer's ids are not the rows of the weights; "" where nothing speaks against it."""
        from captioning.subwords import from_folder

        if max(found.lm_ids) >= self.rows:
            return f"the tokenizer has the token {max(found.lm_ids)}, the weights of {self.name} only {self.rows} rows"
        if self.tokenizer_folder == self.weights_folder:
            return ""
        try:
            own = from_folder(self.weights_folder, self.architecture).lm_vocabulary
        except BadInput:  # no tokenizer lies beside the weights, or none that can be read
            stated, end = read_config(self.weights_folder).get("eos_token_id", END_ID[self.architecture]), found.lm_ids[END]
            fits = stated is None or end in (stated if isinstance(stated, list) else [stated])
            return "" if fits else f"its end token is {end}, eos_token_id of the weights of {self.name} is {stated}"
        moved = [token for token, i in found.lm_vocabulary.items() if own.get(token) != i]
        return f"the token {moved[0]!r} has another id than in the tokenizer beside the weights of {self.name}" if moved else ""

    @functools.cached_property
    def rows(self) -> int:
        """Tokens that the weights of the folder have a row for, by the headers of the files."""
        for path in _weight_files(self.weights_folder):
            with _reading(path) as tensors:
                shapes = {n.removeprefix("transformer."): tensors.get_slice(n).get_shape() for n in tensors.keys()}  # noqa: SIM118
            for name in EMBEDDINGS[self.architecture]:
                if len(shapes.get(name, [])) == 2:
                    return shapes[name][0]
        raise BadInput(f"{self.weights_folder}: its weights have no {EMBEDDINGS[self.architecture][0]} (V,W); fetch them again")

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
        settings = {} if self.weights_folder is None else self.settings  # those of a random one follow from RunConfig
        facts = {"language_model": self.weights_sha256, "language_settings": settings, "tokenizer": tokenizer}
        return {name: value for name, value in facts.items() if value}

    def to_dict(self) -> dict:
        """What a checkpoint keeps: enough to build it again and load its own weights."""
        fields = ("architecture", "name", "settings", "absent", "unembeds", "identity")
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def from_dict(cls, kept: dict) -> "Language":
        try:
            kept = kept | {"absent": list(map(int, kept["absent"])), "unembeds": bool(kept["unembeds"]), "identity": dict(kept["identity"])}
            settings = used_settings(kept["architecture"], dict(kept["settings"]), "the checkpoint's language model")
            return cls(kept["architecture"], str(kept["name"]), settings, kept=kept)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"the checkpoint's language model is not described ({error}); copy the folder again") from error

    def never(self, vocabulary_size: int):
        """(V,) what is added to the logits: -inf at tokens that the language model does not have."""
        import torch

        wrong = [i for i in self.absent if i == END or not 0 <= i < vocabulary_size]
        if wrong:
            raise BadInput(f"the checkpoint's language model lacks the token {wrong[0]} of {vocabulary_size}; copy the folder again")
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
    folder = _find(config.language_model, weights, fetch, architecture, with_tokenizer=tokenizer is None)
    stated = read_config(folder)
    if stated["model_type"] != architecture:
        kind = stated["model_type"]
        raise BadInput(
            f"{folder}: holds a model of type {kind}, --system {config.system} wants {architecture}; give another --language-model"
        )
    settings = used_settings(architecture, stated, f"{folder}/config.json")
    name = folder.absolute().name if folder in (Path(config.language_model), Path(weights)) else config.language_model
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


def _find(name: str, weights: str, fetch: bool, architecture: str, with_tokenizer: bool) -> Path:
    """The folder of a named model: the name itself, in the folder --weights names or that folder, in Hugging Face's cache, or fetched into it."""
    if Path(name).is_dir():
        return Path(name)
    if weights != "pretrained":
        place = Path(weights)
        tried = [place / name.replace("/", "--"), place / name, place / name.rsplit("/", 1)[-1]]
        for candidate in tried:
            if (candidate / "config.json").is_file():
                return candidate
        with contextlib.suppress(BadInput):  # the config.json of an encoder has no model_type
            if read_config(place)["model_type"] == architecture:
                return place
        raise BadInput(
            f"--weights {weights}: it is no {architecture}, nor has it a folder {tried[-1].name} with one (config.json, model.safetensors, "
            "tokenizer.json); put one there, name a folder by --language-model, or use --weights none for a random one"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError, ValueError, OSError):
        cached = Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=True))
        if _has_weights(cached) and (not with_tokenizer or _has_tokenizer(cached)):
            return cached
    if not fetch:
        raise BadInput(f"weights of {name} are not here yet; running fetches them")
    try:
        from captioning.trunks import look_up

        look_up(ENDPOINT)
        fetched = Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # huggingface_hub raises a dozen kinds for "not reachable"; each has the same ways out
        raise BadInput(
            f"the language model {name} is neither in the Hugging Face cache nor to be fetched ({type(error).__name__}); three ways out: go "
            f"online and run again, --language-model DIR with its files, or --weights none for a random one"
        ) from error
    if not _has_weights(fetched):  # the hub's own client falls back to what is here when a connection breaks
        raise BadInput(
            f"the language model {name} is here only in part, {fetched}: its repository has no safetensors (pickled weights are never loaded) "
            "or cannot be reached; go online and run again, or give --language-model DIR with its files"
        )
    return fetched


def _has_weights(folder: Path) -> bool:
    """All of them, where they are in parts: model-00001-of-00003.safetensors."""
    parts = [re.fullmatch(r"model-\d+-of-(\d+)\.safetensors", path.name) for path in folder.iterdir()]
    counts = [int(part[1]) for part in parts if part]
    return (folder / "model.safetensors").is_file() or bool(counts) and len(counts) == max(counts)


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))


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


@contextlib.contextmanager
def _reading(path: Path, framework: str = "np"):
    """The open safetensors file; what is wrong with it is BadInput."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework) as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error}); fetch it again") from error


def _read(language: Language) -> dict:
    """All tensors of the folder under GPT2LMHeadModel's or T5ForConditionalGeneration's names, embedding rows reordered."""
    import torch

    state = {}
    for path in _weight_files(language.weights_folder):
        with _reading(path, "pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    # GPT-2's own files say "wte.weight", those of models trained with a head "transformer.wte.weight".
    state = {name.removeprefix("transformer."): tensor.float() for name, tensor in state.items()}
    if "shared.weight" not in state and "decoder.embed_tokens.weight" in state:
        state["shared.weight"] = state["decoder.embed_tokens.weight"]
    rows = torch.tensor(language.vocabulary().lm_ids)
    for name in ("wte.weight", "shared.weight", "lm_head.weight"):
        if name in state:
            if state[name].dim() != 2 or len(state[name]) != language.rows:
                raise BadInput(f"{language.weights_folder}: {name} is {tuple(state[name].shape)}, not {language.rows} rows; fetch it again")
            found = state[name].index_select(0, rows.clamp_min(0))
            state[name] = found.masked_fill((rows < 0).unsqueeze(1), 0.0)
    return state


def gpt2_model(language: Language, vocabulary_size: int, dropout: float):
    """transformers' GPT2Model over our vocabulary."""
    from transformers import GPT2Config, GPT2Model

    _check_architecture(language, "gpt2")
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    ends = {"bos_token_id": None, "eos_token_id": None}  # of its own vocabulary
    model = GPT2Model(GPT2Config(**language.settings, **drops, **ends, vocab_size=vocabulary_size, use_cache=False))
    if language.weights_folder is not None:
        if language.unembeds:
            raise BadInput(f"{language.weights_folder}: its output matrix is not its embedding's, as GPT-2's is; give a plain gpt2")
        _load(model, {n: t for n, t in language.tensors.items() if n != "lm_head.weight"}, language)
    return model


def t5_decoder(language: Language, vocabulary_size: int, dropout: float):
    """The decoder of transformers' T5ForConditionalGeneration over our vocabulary, with the embedding it shares."""
    from transformers import T5Config, T5ForConditionalGeneration

    _check_architecture(language, "t5")
    # The encoder is not used: the image stands in for its output.
    settings = T5Config(**language.settings, num_layers=1, dropout_rate=dropout, vocab_size=vocabulary_size, use_cache=False)
    stack = T5ForConditionalGeneration(settings).decoder
    if language.weights_folder is not None:
        tensors = {n.removeprefix("decoder."): t for n, t in language.tensors.items() if n.startswith("decoder.")}
        _load(stack, tensors | {"embed_tokens.weight": language.tensors["shared.weight"]}, language)
    return stack


def _check_architecture(language: Language, wanted: str) -> None:
    if language.architecture != wanted:
        raise BadInput(f"the checkpoint's language model is a {language.architecture}, its system wants a {wanted}; copy the folder again")


def _load(module, tensors: dict, language: Language) -> None:
    own = module.state_dict()
    misfits = [n for n, t in tensors.items() if n in own and own[n].shape != t.shape]
    missing = [n for n in own if n not in tensors]
    if misfits or missing:
        name = (misfits or missing)[0]
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        raise BadInput(f"{language.weights_folder}: {name} is {found}, its config.json asks for {tuple(own[name].shape)}; fetch it again")
    unused = [n for n in tensors if n not in own and n.startswith(("h.", "block.")) and not UNREAD.fullmatch(n)]
    if unused:
        raise BadInput(f"{language.weights_folder}: {unused[0]} has no place in the model that its config.json describes; fetch it again")
    module.load_state_dict({n: t for n, t in tensors.items() if n in own})


def without_weights(config: RunConfig) -> RunConfig:
    """What --weights none makes of a configuration: a random encoder, and a random language model of the stated size.

    Raises BadInput: a language model was asked for by name, not only by the system's own default.
    """
    if config.language_model not in ("", SYSTEMS[config.system].settings.get("language_model")):
        raise BadInput(f"--language-model {config.language_model}: --weights none makes a random one; leave one of the two out")
    return replace(config, pretrained=False, language_model="")
