"""One process that scores the saved predictions of every run, so that METEOR's table is loaded once for all of them and not once a run.

`start_scorer` starts it, `ask_scorer` sends it the path of a file of predictions and waits for the scores. Whoever asks scores by itself where the scorer has died:
the answer is the same, it only takes longer.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path

from captioning.bad_input import BadInput

SPLITS = ("val", "test")


class JavaFault(RuntimeError):
    """There is a Java, yet a metric that needs it failed, twice: what was scored is no record, for a passing fault would stand in it for ever."""


def score_saved(predictions: Path) -> dict:
    """{"scores": per split, "pointing": per split or None where the data do not know what stands where}. BadInput: damaged or lost files; JavaFault."""
    from captioning.pointing import score_saved as score_pointing
    from captioning.protocols import score_predictions

    scores = {split: score_predictions(predictions, split) for split in SPLITS}
    _refuse_passing_faults(scores)
    pointing = {split: score_pointing(predictions, split) for split in SPLITS}
    return {"scores": scores, "pointing": pointing if all(pointing.values()) else None}


def _refuse_passing_faults(scores: dict) -> None:
    from captioning.java import JavaUnavailable, coco_folder, find_java

    try:
        find_java()
        coco_folder("meteor")
    except JavaUnavailable:  # it lasts, and the scores say so with the reason
        return
    for split, protocols in scores.items():
        for found in protocols["coco"].values():
            for metric, reason in found["not_available"].items():
                if metric != "SPICE":  # needs models that few have
                    raise JavaFault(f"{metric} of {split}: {reason}; run again when 3 GB of memory are free")


class Scorer:
    """A running scorer; `address` is what `ask_scorer` wants. It ends with the process that started it, whose `in_child` it runs first."""

    def __init__(self, context, in_child: Callable[[], None]):
        self.folder = Path(tempfile.mkdtemp(prefix="recap-"))  # only its owner may enter it
        self.address = str(self.folder / "scorer")
        key = bytes(multiprocessing.current_process().authkey)
        self.process = context.Process(target=_serve, args=(self.address, key, in_child), daemon=True)
        self.process.start()

    def close(self) -> None:
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def ask_scorer(address: str, predictions: Path) -> dict:
    """What `score_saved` returns or raises, from the scorer at `address`; from this process where there is none ("", or one that died)."""
    try:
        with Client(address, family="AF_UNIX", authkey=bytes(multiprocessing.current_process().authkey)) as connection:
            connection.send(str(predictions))
            kind, content = connection.recv()
    except (OSError, EOFError, multiprocessing.AuthenticationError):
        return score_saved(predictions)
    if kind == "bad input":
        raise BadInput(content)
    if kind == "java fault":
        raise JavaFault(content)
    if kind == "fault":
        raise RuntimeError(content)
    return content


def _serve(address: str, key: bytes, in_child: Callable[[], None]) -> None:
    def leave(number: int, _) -> None:  # the parent may be dead, and nobody else knows of the folder
        shutil.rmtree(Path(address).parent, ignore_errors=True)
        os._exit(128 + number)

    in_child()
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; whoever started this says when it leaves
    with Listener(address, family="AF_UNIX", backlog=64, authkey=key) as listener:
        _load_ahead()
        while True:
            try:
                with listener.accept() as connection:
                    connection.send(_answer(Path(connection.recv())))
            except (OSError, EOFError, multiprocessing.AuthenticationError) as error:  # who asked is gone
                print(f"scorer: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _load_ahead() -> None:
    """METEOR's table takes some ten seconds to load; the first run takes longer."""
    from captioning.java import JavaUnavailable
    from captioning.meteor import shared_meteor

    with contextlib.suppress(JavaUnavailable):  # the scores say so, with the reason
        shared_meteor().start()


def _answer(predictions: Path) -> tuple[str, dict | str]:
    try:
        return "scores", score_saved(predictions)
    except BadInput as error:
        return "bad input", str(error)
    except JavaFault as error:
        return "java fault", str(error)
    except Exception as error:  # a fault in one run's scores must not end the scorer of all
        return "fault", f"{type(error).__name__}: {error}"
