"""Train one captioner: configuration -> loop -> checkpoint folder. One process, or many under torchrun.

    python train.py --data DIR --encoder deit_tiny_patch16_224 --grid 7
    python train.py --preset as-published --data DIR     # or corrected; further options change it
    python train.py --system transformer --data DIR      # or t5, prefix, sep
    torchrun --nproc_per_node 2 train.py --data DIR

Reads a data set (python -m captioning.data DIR shows it), writes --out: model.safetensors and config.json of the best epoch so far,
metrics.jsonl with a line an epoch, state.pt to go on from, and at the end README.md, the model card. Started again with the same settings it goes
on where it was, to the bit on a CPU.
"""

import contextlib
import dataclasses
import gc
import importlib.util
import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, at_least, one_of, run_command
from captioning.batches import Batch, CaptionIds, epoch_batches, pad_with_end
from captioning.cache import default_cache
from captioning.config import RunConfig, run_id
from captioning.data import SPLITS, load_data
from captioning.locks import LEAVING_SECONDS, held
from captioning.own_words import forced_share
from captioning.presets import preset, switched
from captioning.progress import track
from captioning.systems import system_config
from captioning.vocabulary import Vocabulary

LOSSES = 8  # fields of models.Losses
PLATEAU_EPOCHS, PLATEAU_FACTOR = 8, 0.8  # of the paper's code


@dataclass(frozen=True)
class Where:
    """Where a run happens: nothing here changes its numbers, up to rounding (on a CPU not even that, for the same number of threads)."""

    data: str = "demo"
    """Data folder, its JSON, or demo for the project's drawn scenes."""
    weights: str = "pretrained"
    """Weights of encoder and language model: pretrained (by name), none, a folder (of both), a file (the encoder's)."""
    out: str = ""
    """Checkpoint folder; default trained/<run_id>."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice."""
    workers: int = 2
    """Processes that decode photos."""
    cache: str = ""
    """Folder for decoded pixels and regions; default $RECAP_CACHE or ~/.cache/recap."""
    regions: Literal["auto", "keep", "encode"] = "auto"
    """Regions of a frozen encoder: keep them in the cache, refused where they would not be the same at every step; encode them anew each
    time; auto keeps them where that is faithful."""
    device_batch_size: int = 0
    """Captions at once on a device; 0 is the whole batch. Gradients add up to those of the batch, up to rounding and random draws (dropout,
    sampled locations, own words) and to BatchNorm in train mode, which sees the parts.
    Halved when memory runs out."""
    save_minutes: float = 5.0
    """At most this much is lost when the process is killed."""
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Send the curve to a tracker too, through accelerate."""

    def __post_init__(self):
        at_least(self, threads=0, workers=0, device_batch_size=0, save_minutes=0.0)
        one_of(self, regions=("auto", "keep", "encode"), device=("auto", "cpu", "cuda"), track=("none", "tensorboard", "wandb", "trackio"))


class Stopped(SystemExit):
    """SIGINT or SIGTERM came; the state is saved. The exit status is 128 + the signal, as a shell expects."""


def train(config: RunConfig, where: Where, data=None, stop_after_steps: int = 0) -> Path:
    """Train until done and return the checkpoint folder. data: a loaded data set (default: the one at where.data).

    stop_after_steps: leave with the state saved after so many steps of this call (0: never), for tests and rehearsals.
    """
    return Training(config, where, data).run(stop_after_steps)


class Training:
    """One run: what it is made of, where it stands. `run` is the loop; the order of the methods is the order of a run."""

    def __init__(self, config: RunConfig, where: Where, data=None):
        import torch
        from accelerate import Accelerator

        from captioning.inputs import why_not_kept
        from captioning.language_models import locate_language, without_weights
        from captioning.trunks import locate
        from models import build_model

        if where.weights == "none":
            config = without_weights(config)
        self.config, self.where = config, where
        if where.device == "cuda" and not torch.cuda.is_available():
            raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
        if where.track != "none" and importlib.util.find_spec(where.track) is None:
            raise BadInput(f"--track {where.track}: not installed; pip install {where.track}, or leave the option out")
        if where.threads:
            torch.set_num_threads(where.threads)
        self.data = data or load_data(where.data, restval=config.restval)
        self.source = locate(config.encoder, config.pretrained, where.weights)
        language = locate_language(config, where.weights)
        hashes = {"weights": self.source.weights_sha256, "encoder_file": self.source.file_sha256}
        hashes |= {"language": language.identity if language else None}
        self.run_id = run_id(config, data=self.data.fingerprint, **hashes)
        self.out = Path(where.out or f"trained/{self.run_id}")
        self.cache = Path(where.cache) if where.cache else default_cache()
        self.accelerator = Accelerator(
            cpu=where.device == "cpu" or not torch.cuda.is_available(),  # not Apple's MPS: it has no float64
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            log_with=None if where.track == "none" else where.track,
            project_dir=str(self.out),
        )
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes

        self.vocabulary = self._make_vocabulary(language)
        self.captions = self._ids(*(SPLITS if config.train_on == "all" else ("train",)))
        if not len(self.captions):
            raise BadInput(f"{where.data}: the training split has no captions")
        if self.captions.cut and self.rank == 0:
            units = "words" if self.vocabulary.has_words else "tokens"
            print(f"{self.captions.cut} training captions are longer than {config.max_words} {units} and are cut", file=sys.stderr)
        torch.manual_seed(config.seed)
        self.model = build_model(config, len(self.vocabulary), source=self.source, language=language).to(self.accelerator.device)
        self.inputs = self._open_inputs()
        if self.rank == 0 and (reason := why_not_kept(config, self.model.encoder)):
            print(f"regions are not kept: {reason}", file=sys.stderr)
        encoder = [p for p in self.model.encoder.parameters() if p.requires_grad]
        groups = [{"params": list(self.model.decoder.parameters()), "lr": config.decoder_lr}]
        groups += [{"params": encoder, "lr": config.encoder_lr}] if encoder else []
        self.optimiser = torch.optim.Adam(groups, fused=True)
        self.wrapped = self.accelerator.prepare_model(self.model)
        # Processes draw different dropout; one process draws what it always drew.
        torch.manual_seed(config.seed + 1_000_003 * self.rank)
        self.parts = 1
        if where.device_batch_size:
            self.parts = math.ceil(config.batch_size / where.device_batch_size / self.world)
        self.epoch = self.batch = self.step = self.best_epoch = self.lines = 0
        self.best, self.lowest, self.seconds, self.sums = -1.0, math.inf, 0.0, [0.0] * LOSSES
        self.lowered = 0  # times that the plateau schedule has lowered the learning rate
        self.images_seen = 0  # by this call

    def _make_vocabulary(self, language):
        """The language model's own tokens, else words of the data set."""
        vocabulary = language.vocabulary() if language is not None else None
        if vocabulary is not None:
            return vocabulary
        rule = SPLITS if self.config.vocabulary == "all" else ("train",)
        counted = (c for split in rule for i in self.data.split(split) for c in self.data.examples[i].captions)
        return Vocabulary.build(counted, self.config.minimum_count)

    def _ids(self, *splits: str) -> CaptionIds:
        indices = [i for split in splits for i in self.data.split(split)]
        captions = [self.vocabulary.captions_of(self.data.examples[i]) for i in indices]
        return CaptionIds(captions, indices, self.vocabulary, self.config.max_words)

    def _open_inputs(self):
        """What a step reads for its images: regions kept from a frozen encoder, or pixels."""
        from captioning.inputs import open_inputs

        return open_inputs(self.data, self.model.encoder, self.config, self.cache, self.where.workers, self.where.regions)

    def run(self, stop_after_steps: int = 0) -> Path:
        """Train to the end, or for so many steps, and return `out`. BadInput where another process trains into it."""
        if not self.accelerator.is_main_process:
            return self._run(stop_after_steps)
        busy = f"{self.out}: another training is at work there; wait for it or choose another --out"
        with held(self.out / ".lock", busy, LEAVING_SECONDS):
            return self._run(stop_after_steps)

    def _run(self, stop_after_steps: int) -> Path:
        self._resume()
        self.model.train()
        config, begun = self.config, time.monotonic()
        started, saved, first_step = time.monotonic() - self.seconds, time.monotonic(), self.step
        if self.where.track != "none":
            settings = {name: str(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(config).items()}
            self.accelerator.init_trackers("recap", config=settings)
        import captioning.validation  # noqa: F401 (now: a signal that raises in the midst of an import would be swallowed, with a traceback)

        with _Signals() as signals:
            while self.epoch < config.epochs and not self._out_of_patience():
                batches = epoch_batches(self.captions, config, self.epoch)
                bar = track(batches[self.batch :], f"epoch {self.epoch + 1}/{config.epochs}", quiet=self.rank > 0, units="batches")
                for chosen in bar:
                    self._learn(chosen, len(batches))
                    bar.say(self._describe(begun))
                    self.seconds = time.monotonic() - started
                    received = self._agree(signals.received)
                    full = stop_after_steps and self.step - first_step >= stop_after_steps
                    if received or full or self._agree(time.monotonic() - saved > 60 * self.where.save_minutes):
                        self._save_state()
                        saved = time.monotonic()
                    if received or full:
                        self.leave()
                        raise Stopped(128 + received if received else 0)
                # From here to the next epoch nothing is drawn at random: whoever kills it now finds this state and validates again.
                self._save_state()
                with signals.at_once():
                    self._finish_epoch(started)
                saved = time.monotonic()
        self.leave()
        if self.accelerator.is_main_process:
            from captioning.checkpoint import mark_finished
            from captioning.model_card import CARD, write_card

            mark_finished(self.out)
            if not (self.out / CARD).exists():  # the one there may have the scores of a run, or its maker's own words
                write_card(self.out)
        return self.out

    def leave(self) -> None:
        """End trackers and the group of processes. One that is still held as Python leaves now and then aborts the process (SIGABRT)."""
        self.wrapped = None
        gc.collect()  # the wrapper is part of reference cycles
        self.accelerator.end_training()

    def _learn(self, chosen: np.ndarray, batches: int) -> None:
        """One optimiser step on these captions; halves the device batch when memory runs out."""
        import torch

        batch = self.captions.collate(chosen)
        if self.config.padding == "end":
            batch = pad_with_end(batch)
        self._set_learning_rate(batches)
        while True:
            try:
                self.optimiser.zero_grad(set_to_none=True)
                sums = self._backward(batch, forced_share(self.config, (self.epoch + self.batch / batches) / self.config.epochs))
                break
            except torch.OutOfMemoryError:
                if self.world > 1:  # the other processes are in another part of the batch and would wait forever
                    raise BadInput(
                        "out of memory; several processes can't find a smaller batch together: give --device-batch-size"
                    ) from None
                if self.parts >= len(batch.images):
                    raise BadInput("out of memory with one image at a time; choose a smaller --image-size or model") from None
                self.parts *= 2
                torch.cuda.empty_cache()
                print(f"out of memory: the device batch is now 1/{self.parts} of the batch", file=sys.stderr)
        norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.clip_norm or math.inf)
        values = sums.tolist()  # waits for the device: the price of stopping at the first loss that is no number
        if not all(map(math.isfinite, [*values, float(norm)])):
            what = f"the gradient's norm is {float(norm)}" if math.isfinite(values[0]) else f"loss is {values[0]}"
            kept = f"the last good checkpoint is {self.out}" if self.best >= 0 else "no epoch had ended"
            raise BadInput(f"{what} at step {self.step + 1} (epoch {self.epoch + 1}); lower --decoder-lr or --encoder-lr; {kept}")
        if self.config.clip_value:
            torch.nn.utils.clip_grad_value_(self.wrapped.parameters(), self.config.clip_value)
        self.optimiser.step()
        if self.config.attention == "hard":
            self._move_baseline(sums)
        self.sums = [a + b for a, b in zip(self.sums, values, strict=True)]
        self.step += 1
        self.batch += 1
        self.images_seen += len(batch.images)

    def _backward(self, batch: Batch, share: float):
        """Gradients of the batch's loss: cross-entropy per word and penalty per caption of the *whole* batch, whoever computes which part."""
        import torch

        words, captions = int(batch.lengths.sum()), len(batch.lengths)
        mine = np.arange(len(batch.images))[self.rank :: self.world]
        weight = self.world  # processes average their gradients; the sums here must add up
        if not len(mine):
            mine, weight = np.array([0]), 0  # every process must take part in the exchange of gradients
        parts = [p for p in np.array_split(mine, self.parts) if len(p)]
        total = torch.zeros(LOSSES, device=self.accelerator.device)
        for i, places in enumerate(parts):
            part = batch.part(places)
            inputs = self.inputs.get(part.images, epoch=self.epoch)
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                losses = self.wrapped(*self._to_device(inputs, part), share)
                loss = self._loss(losses, words, captions)
                self.accelerator.backward(loss * weight)
            total += torch.stack([v.detach().float() for v in losses]) * (weight > 0)
        return total

    def _loss(self, losses, words: int, captions: int):
        """What is minimised; `words` and `captions` are those of the whole batch."""
        config = self.config
        loss = losses.cross_entropy / words + config.penalty_weight * losses.penalty / captions
        if config.attention == "hard":
            divisor = {"words": words, "captions": captions, "none": 1}[config.reinforce_scale]
            loss = loss + (config.reinforce_weight * losses.reinforce - config.entropy_weight * losses.entropy) / divisor
        return loss

    def _move_baseline(self, sums) -> None:
        """After the step: a batch is never measured by a baseline that knows it."""
        *_, captions, _, _, reward = self._reduce(sums.tolist()) if self.world > 1 else sums.tolist()
        kept = self.config.baseline_decay
        self.model.baseline.mul_(kept).add_((1 - kept) * reward / captions)

    def _to_device(self, inputs, batch: Batch):
        import torch

        arrays = (torch.from_numpy(a) for a in (batch.words, batch.lengths, batch.image_of))
        return inputs.to(self.accelerator.device), *(a.to(self.accelerator.device) for a in arrays)

    def _set_learning_rate(self, batches: int) -> None:
        config = self.config
        factor = 1.0
        if config.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * (self.epoch + self.batch / batches) / config.epochs))
        if config.schedule == "plateau":
            factor = PLATEAU_FACTOR**self.lowered
        if config.warmup_steps:
            factor *= min(1.0, (self.step + 1) / config.warmup_steps)
        for group, rate in zip(self.optimiser.param_groups, (config.decoder_lr, config.encoder_lr), strict=False):
            group["lr"] = rate * factor

    def _finish_epoch(self, started: float) -> None:
        """Validate, write the curve's line, keep the checkpoint if it is the best so far, save the state of the next epoch's start."""
        ce, penalty, top5, words, captions, _, entropy, _ = self._reduce(self.sums)
        line = {"epoch": self.epoch + 1, "step": self.step, "train_loss": ce / words + self.config.penalty_weight * penalty / captions}
        line |= {"train_cross_entropy": ce / words, "train_penalty": penalty / captions, "train_top5": 100 * top5 / words}
        if self.config.attention == "hard":
            line |= {"train_attention_entropy": entropy / words, "baseline": float(self.model.baseline)}
        line |= self._validate()
        score = line["val_bleu4_free" if self.config.select == "free" else "val_bleu4_published"]
        # A few validation images may share no 4-gram with any reference for many epochs: of epochs at 0 the lowest cross-entropy is the best.
        if score > self.best or (score == self.best == 0 and line["val_cross_entropy"] < self.lowest):
            self.best, self.lowest, self.best_epoch = score, line["val_cross_entropy"], self.epoch + 1
            if self.accelerator.is_main_process:
                self._save_checkpoint(line)
        elif (self.epoch + 1 - self.best_epoch) % PLATEAU_EPOCHS == 0:
            self.lowered += 1
        self.seconds = time.monotonic() - started
        line["seconds"] = round(self.seconds, 1)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, [0.0] * LOSSES
        if self.accelerator.is_main_process:
            with open(self.out / "metrics.jsonl", "a", encoding="utf-8") as curve:
                curve.write(json.dumps(line) + "\n")
            top5 = f" top-5 {line['val_top5']:.1f} %," if "val_top5" in line else ""
            forced = f" {line['val_bleu4_published']:.2f} (teacher-forced)" if "val_bleu4_published" in line else ""
            print(
                f"epoch {line['epoch']}: loss {line['train_loss']:.3f}, validation cross-entropy {line['val_cross_entropy']:.3f},"
                f"{top5} BLEU-4 {line['val_bleu4_free']:.2f} (free, greedy){forced}",
                flush=True,
            )
        self.accelerator.log({k: v for k, v in line.items() if k != "epoch"}, step=self.step)
        self.lines += 1
        self._save_state()

    def _validate(self) -> dict:
        """Cross-entropy, penalty, top-5 under teacher forcing; BLEU-4 of greedy captions (free) and of the forced words (published).

        Top-5 and published are of words only.
        """
        from captioning.validation import validate

        if self.world > 1 and self.model.encoder.drifts:
            from accelerate.utils import broadcast

            for name, buffer in self.model.named_buffers():  # each process's statistics saw other pictures; those of the first are saved
                if name.startswith("encoder."):
                    buffer.copy_(broadcast(buffer.clone()))
        device = self.accelerator.device
        captions, words = self._ids("val"), self.config.max_words
        return validate(self.model, self.data, captions, self.inputs, self.vocabulary, words, device, self.accelerator)

    def _reduce(self, sums: list[float]) -> list[float]:
        import torch

        return self.accelerator.reduce(torch.tensor(sums, dtype=torch.float32, device=self.accelerator.device), "sum").tolist()

    def _agree(self, value):
        """The largest value of all processes: one that saw a signal stops them all."""
        if self.world == 1:
            return value
        import torch
        from accelerate.utils import gather

        return int(gather(torch.tensor([int(value)], device=self.accelerator.device)).max())

    def _out_of_patience(self) -> bool:
        return bool(self.config.patience) and self.epoch - self.best_epoch >= self.config.patience

    def _describe(self, begun: float) -> str:
        ce, penalty, top5, words, captions, *_ = self.sums
        rate = self.images_seen / max(time.monotonic() - begun, 1e-9)
        return f"loss {ce / words + self.config.penalty_weight * penalty / captions:.3f}, top-5 {100 * top5 / words:.1f} %, {rate:.0f} images/s"

    def _save_checkpoint(self, line: dict) -> None:
        from captioning.checkpoint import save_checkpoint

        scores = {k: v for k, v in line.items() if k.startswith("val_")}
        facts = {"run_id": self.run_id, "data": {"name": self.data.name, "fingerprint": self.data.fingerprint}, "epoch": self.epoch + 1}
        save_checkpoint(self.out, self.model, self.config, self.vocabulary, facts | {"scores": scores})

    def _save_state(self) -> None:
        import torch
        from accelerate.utils import gather_object

        from captioning.checkpoint import save_state

        device = self.accelerator.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        own = [{"cpu": torch.get_rng_state(), "cuda": cuda, "sums": self.sums}]
        processes = gather_object(own) if self.world > 1 else own
        if not self.accelerator.is_main_process:
            return
        unchanged = self.config.frozen and not self.model.encoder.drifts
        kept = {n: t for n, t in self.model.state_dict().items() if not (unchanged and n.startswith("encoder."))}
        place = {
            n: getattr(self, n)
            for n in ("run_id", "world", "epoch", "batch", "step", "best", "lowest", "best_epoch", "lines", "seconds", "parts", "lowered")
        }
        save_state(self.out / "state.pt", {**place, "model": kept, "optimiser": self.optimiser.state_dict(), "processes": processes})

    def _resume(self) -> None:
        """Take up the state in `out`, if there is one of this very run."""
        import torch

        from captioning.checkpoint import load_state, read_description

        path = self.out / "state.pt"
        if not path.exists():
            if (self.out / "config.json").exists():
                description = read_description(self.out)
                if description["run_id"] == self.run_id and description.get("finished"):
                    self.epoch = self.config.epochs  # nothing is left to do
                    return
                raise BadInput(f"{self.out}: holds a checkpoint but no state.pt to go on from; choose another --out or delete it")
            if self.accelerator.is_main_process:
                self.out.mkdir(parents=True, exist_ok=True)
                with atomic_write(self.out / "metrics.jsonl"):
                    pass
            return
        state = load_state(path)
        if state["run_id"] != self.run_id:
            raise BadInput(
                f"{self.out}: holds the run {state['run_id']}, this is {self.run_id}; choose another --out or the same settings and data"
            )
        if state["world"] != self.world:
            raise BadInput(
                f"{self.out}: was trained by {state['world']} processes, these are {self.world}; dropout would differ; use as many"
            )
        self.model.load_state_dict(state.pop("model"), strict=False)
        self.optimiser.load_state_dict(state.pop("optimiser"))
        own = state.pop("processes")[self.rank]
        torch.set_rng_state(own["cpu"])
        if self.accelerator.device.type == "cuda" and own["cuda"] is not None:
            torch.cuda.set_rng_state(own["cuda"], self.accelerator.device)
        self.sums = own["sums"]
        if self.where.device_batch_size:
            del state["parts"]  # what was asked for now counts: it is the way out where the state's own ran out of memory
        vars(self).update(state)
        if self.accelerator.is_main_process:
            # A line written after the state was saved belongs to an epoch that is validated again.
            lines = (self.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            with atomic_write(self.out / "metrics.jsonl") as curve:
                curve.writelines(lines[: self.lines])
            if self.epoch < self.config.epochs:
                print(f"going on at epoch {self.epoch + 1}, batch {self.batch + 1}, step {self.step}", flush=True)


class _Signals:
    """SIGINT and SIGTERM are noted; the loop saves and leaves after the step. Within `at_once` they leave at once: the state is on disk."""

    def __enter__(self) -> "_Signals":
        self.received, self.now = 0, False
        self.before = {}
        with contextlib.suppress(ValueError):  # not the main thread: whoever runs this handles signals
            self.before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        self.received = number
        if self.now:
            raise Stopped(128 + number)

    @contextlib.contextmanager
    def at_once(self):
        self.now = True
        if self.received:
            raise Stopped(128 + self.received)
        yield
        self.now = False


@dataclass(frozen=True)
class _Arguments:
    config: RunConfig = RunConfig()
    where: Where = Where()
    preset: Literal["", "as-published", "corrected"] = ""
    """Settings as the paper's published code has them, or as it meant them; other options change them."""
    switch: tuple[str, ...] = ()
    """Decisions of the published code (captioning/presets.py) to switch alone."""


def main() -> int:
    import argparse

    from captioning.allocator import keep_freed_memory
    from captioning.train_help import short_help

    # These choose the defaults of all other options, so they are read first. Without its value (?) an option is for tyro to refuse.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--system", nargs="?", default="attend", const="attend")
    first.add_argument("--preset", nargs="?", default="", const="")
    first.add_argument("--switch", nargs="*", default=[])
    chosen, _ = first.parse_known_args()
    config = preset(chosen.preset, chosen.system) if chosen.preset else system_config(chosen.system)
    for name in chosen.switch:
        config = switched(name, config)
    if "--help-all" in sys.argv:
        sys.argv = [sys.argv[0], "--help"]
    elif {"-h", "--help"} & set(sys.argv[1:]):
        print(short_help(__doc__, config))
        return 0
    import tyro

    arguments = tyro.cli(tyro.conf.OmitArgPrefixes[_Arguments], description=__doc__, default=_Arguments(config=config))
    keep_freed_memory()
    folder = train(arguments.config, arguments.where)
    if os.environ.get("RANK", "0") == "0":  # torchrun's other processes have nothing to say
        print(f"checkpoint: {folder}\ncaption a photo: python caption.py --checkpoint {folder} --img photo.jpg")
    return 0


if __name__ == "__main__":
    run_command(main)
