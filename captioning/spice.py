"""SPICE 1.0 (Anderson et al. 2016) by the jar that coco-caption uses; it needs Stanford CoreNLP 3.6.0 and its models, a download.

Where to put them: stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar, out of
http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip, into a folder that RECAP_SPICE_MODELS (or --spice-models) names.

On the Java of today SPICE needs three things more: `--add-opens` for the FST library of its cache (java.lang, java.math, java.util,
java.util.concurrent, java.net, java.text: found one by one on Java 25), an engine called "JavaScript", which Java dropped in version 15 and
without which it dies after all the work (spice_json/), and a smaller heap than the 8 GB it asks for.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioning.java import JavaUnavailable, coco_folder, run_java

_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_OPENED = ("java.lang", "java.math", "java.util", "java.util.concurrent", "java.net", "java.text")
_HEAP = "4g"


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]], models: str | Path | None = None) -> np.ndarray:
    """(N,) SPICE's f-score per image, 0..1; the corpus value is their mean. Raises JavaUnavailable with the reason.

    candidates: tokens joined by one space; references: per image a list of such strings. models: the folder of the two jars; default
    RECAP_SPICE_MODELS, then pycocoevalcap's own folder. Parsed captions are kept in RECAP_SPICE_CACHE if that names a folder.
    """
    jars = _find_models(models)
    images = [
        {"image_id": number, "test": candidate, "refs": list(captions)}
        for number, (candidate, captions) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="recap-spice-") as folder:
        work = Path(folder)
        (work / "captions.json").write_text(json.dumps(images), encoding="ascii")
        cache = Path(os.environ.get("RECAP_SPICE_CACHE") or work / "cache").resolve()
        cache.mkdir(parents=True, exist_ok=True)
        run_java(spice_command(jars, work / "captions.json", work / "scores.json", cache), heap=_HEAP, folder=work)
        try:
            results = json.loads((work / "scores.json").read_text(encoding="utf-8"))
            scores = {result["image_id"]: float(result["scores"]["All"]["f"]) for result in results}
            return np.array([scores[number] for number in range(len(images))])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JavaUnavailable(f"SPICE ended without a score for every image ({error!r})") from error


def spice_command(models: Sequence[Path], captions: Path, scores: Path, cache: Path) -> list[str]:
    """The arguments of java. Our two additions come first on the class path: jars of the same name in the package must not win."""
    folder = coco_folder("spice")
    engine = Path(__file__).parent / "spice_json" / "json-engine.jar"
    class_path = [engine, *models, folder / "lib" / "*", folder / "spice-1.0.jar"]
    opened = [part for package in _OPENED for part in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")]
    native = ["--enable-native-access=ALL-UNNAMED"]  # LMDB, the cache's library
    program = ["-cp", os.pathsep.join(map(str, class_path)), "edu.anu.spice.SpiceScorer"]
    return [*opened, *native, *program, str(captions), "-cache", str(cache), "-out", str(scores), "-subset", "-silent"]


def _find_models(models: str | Path | None) -> list[Path]:
    named = models or os.environ.get("RECAP_SPICE_MODELS")
    folder = Path(named).resolve() if named else coco_folder("spice") / "lib"  # Java is called elsewhere
    missing = [name for name in _MODELS if not (folder / name).is_file()]
    if missing:
        where = f"in {folder}" if named else "installed"
        raise JavaUnavailable(
            f"{' and '.join(missing)} not {where}: unpack them from http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip "
            "into a folder and name it by RECAP_SPICE_MODELS or --spice-models"
        )
    return [folder / name for name in _MODELS]
