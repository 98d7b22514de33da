"""Whether a page lies there as it would be made now: a hash of all that it is made from, and of each of its files, in .made.json beside it. No torch.

Made from: a profile's records, captions, curves, maps and plan, the other results that the page shows, this project's code and data, and the
libraries that draw and write.
"""

import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.fingerprint import file_sha256

FILE = ".made.json"
ROOT = Path(__file__).resolve().parents[1]
CODE = ("reports/*.*", "reports/templates/*", "captioning/**/*.*", "benchmarks/**/*.*")  # not the pages that are generated below reports/
CODE_ENDINGS = (".py", ".j2", ".css", ".js", ".json", ".mplstyle")
LIBRARIES = ("matplotlib", "seaborn", "pandas", "jinja2", "numpy", "pillow")
# Of a profile's folder: not its checkpoints and logs.
PARTS = ("runs", "captions", "protocols", "attention")


def inputs_of(profile: Path, places: Iterable[Path], committed: Path | None, **options: object) -> str:
    """profile: its results folder; places: results folders whose speeds and marked captions it shows; committed: the committed profile beside it."""
    files = [path for part in PARTS for path in sorted((profile / part).glob("*"))]
    files += [path for names in ("*.json", "*.txt") for path in sorted(profile.glob(names))]
    files += [path for place in places for kind in ("speed", "marked") for path in sorted((place / kind).glob("*.json"))]
    files += sorted((committed / "runs").glob("*.json")) if committed else []
    digest = hashlib.sha256(json.dumps([_code(), options], sort_keys=True, default=str).encode())
    for path in files:  # not where they lie: equal results give equal bytes, wherever
        digest.update(f"{path.parent.name}/{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


@functools.cache
def _code() -> str:
    digest = hashlib.sha256(json.dumps([sys.version, *map(importlib.metadata.version, LIBRARIES)]).encode())
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            if path.suffix in CODE_ENDINGS:
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def lies_there(target: Path, inputs: str) -> bool:
    """Every file of the page is the one that was made from these inputs."""
    try:
        made = json.loads((target / FILE).read_text(encoding="utf-8"))
        return made["inputs"] == inputs and all(file_sha256(target / name) == sha256 for name, sha256 in made["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def note(target: Path, inputs: str, files: Iterable[Path]) -> None:
    hashes = {path.relative_to(target).as_posix(): file_sha256(path) for path in sorted(set(files))}
    with atomic_write(target / FILE) as file:
        file.write(json.dumps({"inputs": inputs, "files": hashes}, indent=1) + "\n")
