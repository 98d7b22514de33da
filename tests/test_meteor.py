"""METEOR: our formula on the jar's counts equals the jar's own EVAL, through pycocoevalcap's own code; it survives what its users meet."""

import random
import threading

import numpy as np
import pytest

from captioning.java import JavaUnavailable
from captioning.meteor import COUNTS, Meteor, meteor_score, shared_meteor

SPEECH = "a the two dog dogs man men person runs running run on in beach grass green small large little child kid , ' . 3 is riding rides"
WORDS = SPEECH.split()


def made_up(images: int, seed: int) -> tuple[list[str], list[list[str]]]:
    chance = random.Random(seed)
    references = [[" ".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(chance.randint(1, 5))] for _ in range(images)]
    candidates = [own[0] if chance.random() < 0.2 else " ".join(chance.choices(WORDS, k=chance.randint(0, 12))) for own in references]
    return candidates, references


def as_shipped(candidates: list[str], references: list[list[str]]) -> tuple[float, list[float]]:
    """pycocoevalcap's Meteor on our running process (its own would load the paraphrase table again)."""
    from pycocoevalcap.meteor.meteor import Meteor as Shipped

    class Attached(Shipped):
        def __init__(self):
            shared_meteor().start()
            self.meteor_p, self.lock = shared_meteor()._process, threading.Lock()

        def __del__(self):
            pass  # the process is shared

    return Attached().compute_score(dict(enumerate(references)), {number: [caption] for number, caption in enumerate(candidates)})


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_jars_own_score(seed):
    candidates, references = made_up(120, seed)
    expected, expected_per_image = as_shipped(candidates, references)
    rows = shared_meteor().counts(candidates, references)
    assert 0.05 < expected < 0.9
    assert float(meteor_score(rows.sum(axis=0))) == pytest.approx(expected, abs=1e-9)
    assert np.allclose(meteor_score(rows), expected_per_image, atol=1e-9)


def test_the_whole_caption_right_is_one_nothing_right_is_zero():
    rows = shared_meteor().counts(["a dog runs", "a dog", "", "a dog"], [["a dog runs"], ["seven trees"], ["a dog"], [""]])
    assert meteor_score(rows).tolist() == pytest.approx([1, 0, 0, 0])


def test_what_would_break_its_lines():
    plain = shared_meteor().counts(["a dog runs"], [["a cat runs", "a dog"]])
    nasty = shared_meteor().counts(["a dog ||| runs"], [["a cat\nruns", "a\rdog"]])
    assert nasty.tolist() == plain.tolist()
    assert shared_meteor().counts(["a 😀 \ud800 dog"] * 3, [["é"]] * 3).shape == (3, COUNTS)


def test_more_requests_than_a_pipe_holds():
    """64 kB fill a pipe: who writes all and then reads waits for ever."""
    rows = shared_meteor().counts(["a dog runs on the beach"] * 3000, [["a dog on the beach", "the dog runs"]] * 3000)
    assert (rows == rows[0]).all()


def stand_in(monkeypatch, folder, text: str) -> None:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\n{text}\n")
    java.chmod(0o755)
    monkeypatch.setenv("RECAP_JAVA", str(java))


def test_a_killed_process_is_started_again(monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, f"while read -r line; do echo {'0 ' * COUNTS}; done")
    meteor = Meteor()
    meteor.start()
    meteor._process.kill()
    meteor._process.wait()
    assert meteor.counts(["a dog"] * 2, [["a dog"]] * 2).tolist() == [[0] * COUNTS] * 2
    meteor.close()


@pytest.mark.parametrize("says, reason", [("exit 0", "status 0"), ("echo 'Error: specify SCORE'", "answered 'Error: specify SCORE'")])
def test_an_answer_that_is_none(monkeypatch, tmp_path, says, reason):
    stand_in(monkeypatch, tmp_path, says)
    meteor = Meteor()
    with pytest.raises(JavaUnavailable, match=reason):
        meteor.counts(["a dog"] * 5000, [["a dog"]] * 5000)
    meteor.close()
