"""METEOR 1.5 (Denkowski and Lavie 2014) by the jar that coco-caption uses, with the counts from which its corpus score is made.

The jar loads its paraphrase table for some ten seconds and then answers quickly, so one process is kept and shared, and requests go in
bulk. It answers a SCORE line with 23 counts; coco-caption sends them back in one EVAL line to get scores. Here the formula stands in numpy
(`meteor_score`, tested equal to EVAL), because a bootstrap needs it on thousands of sums.
"""

import atexit
import contextlib
import os
import tempfile
import threading
from collections.abc import Sequence

import numpy as np

from captioning.java import JavaUnavailable, coco_folder, reason_of, start_java, stop

COUNTS = 23
_CHUNKS = 20  # column: words matched in the same order stand in one chunk
# The jar's parameters for English (edu.cmu.meteor.util.Constants, task "rank") and its weights of exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])


def meteor_score(sums: np.ndarray) -> np.ndarray:
    """(..., 23) summed counts -> (...,) METEOR in 0..1 (MeteorScorer.computeMetrics)."""
    length, reference_length, function, reference_function = np.moveaxis(sums[..., :4], -1, 0)
    stages = sums[..., 4:_CHUNKS].reshape(
        *sums.shape[:-1], 4, 4
    )  # (..., stage, [content, reference content, function, reference function])
    matched = np.einsum("...sk,s->...k", stages, _WEIGHTS)
    chunks, words, reference_words = np.moveaxis(sums[..., _CHUNKS:], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # as in Java, 0/0 makes the score 0
        precision = _weighted(matched[..., 0], matched[..., 2]) / _weighted(length - function, function)
        recall = _weighted(matched[..., 1], matched[..., 3]) / _weighted(reference_length - reference_function, reference_function)
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = chunks / ((words + reference_words) / 2)
        score = mean * (1 - _GAMMA * fragmentation**_BETA)
    return np.maximum(np.nan_to_num(score), 0)


def _weighted(content: np.ndarray, function: np.ndarray) -> np.ndarray:
    return _DELTA * content + (1 - _DELTA) * function


def _without_whole_matches(rows: np.ndarray) -> np.ndarray:
    """A candidate that equals its reference is one chunk, and counts as none (MeteorStats.addStats, computeMetrics)."""
    stages = rows[:, 4:_CHUNKS].reshape(-1, 4, 4).sum(axis=1)  # (N, [content, reference content, function, reference function])
    whole = (stages[:, 0] + stages[:, 2] == rows[:, 0]) & (stages[:, 1] + stages[:, 3] == rows[:, 1]) & (rows[:, _CHUNKS] == 1)
    rows[whole, _CHUNKS] = 0
    return rows


class Meteor:
    """A running METEOR. `start` begins to load and returns at once; `counts` starts it if need be."""

    def __init__(self) -> None:
        self._process = None
        self._errors = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Raises JavaUnavailable if there is no Java or no jar."""
        with self._lock:
            self._start()

    def counts(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """(N, 23) counts, one row per image, summable over images. Tokens are joined by one space. Raises JavaUnavailable."""
        requests = [_request(candidate, captions) for candidate, captions in zip(candidates, references, strict=True)]
        with self._lock:
            self._start()
            rows = self._ask(requests)
        return _without_whole_matches(rows)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._close()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._close()
        folder = coco_folder("meteor")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        program = ["-jar", str(folder / "meteor-1.5.jar"), "-", "-", "-stdio", "-l", "en", "-norm"]
        # Left to itself the jar escapes the path of its own table twice: not found under a folder with a space or an accent.
        program += ["-a", str(folder / "data" / "paraphrase-en.gz")]
        # 2 GB as in coco-caption; the paraphrase table takes 0.9 of them.
        self._process = start_java(program, heap="2g", stdin=-1, stdout=-1, stderr=self._errors)

    def _ask(self, requests: Sequence[bytes]) -> np.ndarray:
        # A thread writes while this one reads: with both in one, each side could wait for the other to empty a full pipe.
        writer = threading.Thread(target=self._write, args=(b"".join(requests),), daemon=True)
        writer.start()
        rows = np.empty((len(requests), COUNTS))
        try:
            for row in rows:
                answer = self._process.stdout.readline()
                counts = answer.split()
                if len(counts) != COUNTS:
                    raise JavaUnavailable(self._failure(answer))
                row[:] = [float(count) for count in counts]
        except BaseException:
            self._close()  # what is still in the pipe would be taken for the next call's answers
            raise
        finally:
            writer.join()
        return rows

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):  # the process ended: the reader finds no answer and says why
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _failure(self, answer: bytes) -> str:
        if answer:
            return f"METEOR answered {answer.decode('utf-8', 'replace').strip()[:200]!r} instead of {COUNTS} counts"
        self._process.wait()
        return reason_of(self._process, self._errors)

    def _close(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._errors.close()
            self._process = None


def _request(candidate: str, references: Sequence[str]) -> bytes:
    parts = ["SCORE", *references, candidate]
    # "|||" separates; a line is a request. Double spaces as in pycocoevalcap/meteor/meteor.py.
    parts = [part.replace("|||", "").replace("\n", " ").replace("\r", " ").replace("  ", " ") for part in parts]
    return (" ||| ".join(parts) + "\n").encode("utf-8", "replace")


_shared: dict[int, Meteor] = {}


def shared_meteor() -> Meteor:
    """This process's one METEOR. A forked child gets its own: two processes on one pipe would read each other's answers."""
    process = os.getpid()
    if process not in _shared:
        _shared.clear()
        _shared[process] = Meteor()
        atexit.register(_close_own, process)
    return _shared[process]


def _close_own(process: int) -> None:
    if os.getpid() == process and process in _shared:  # a forked child runs its parent's exit functions too
        _shared[process].close()
