"""A checkpoint by its name at the Hugging Face Hub: hf:OWNER/NAME or hf:OWNER/NAME@REVISION -> a folder in the Hub's cache.

    python caption.py --checkpoint hf:OWNER/NAME@REVISION --img photo.jpg

Only the files of a checkpoint are fetched, never a pickle. config.json comes first: of a repository that is none of ours nothing else is fetched.
A revision (branch, tag or commit) that is not a whole commit is looked up, and the commit that it stands for today is said on stderr, so that it
can be pinned. What was fetched once needs no network.
"""

import re
import sys
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.checkpoint import PICKLES, read_description

PREFIX = "hf:"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
# A revision may have slashes (refs/pr/1), but no step that leads out of the cache's folder.
NAME = re.compile(r"hf:(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w.-]*(?:/\w[\w.-]*)*))?", re.ASCII)
OTHERS = "name a repository with a folder that train.py wrote"
COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(name: str | Path) -> Path:
    """The folder of a checkpoint: that of hf:OWNER/NAME[@REVISION] in the Hub's cache, fetched if need be; any other name is a path already.

    Raises BadInput: a name that is none, no such repository or revision, one that is gated, no network and nothing in the cache, no checkpoint of
    ReCap.
    """
    name = str(name)
    if not name.startswith(PREFIX):
        return Path(name)
    found = NAME.fullmatch(name)
    if not found or not _is_repository(found["repository"]):
        raise BadInput(f"--checkpoint {name}: no name at the Hub; give hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    repository, revision = found["repository"], found["revision"] or "main"
    folder = _fetch(name, repository, revision, FILES[:1])
    commit = folder.name
    if commit != revision:
        print(f"{name} is commit {commit}; the same again, whatever is pushed later: {PREFIX}{repository}@{commit}", file=sys.stderr)
    _check(name, repository, folder, "config.json")
    try:
        read_description(folder)
    except BadInput as error:
        reason = str(error).removeprefix(f"{folder}/").replace("copy the folder again", OTHERS)
        raise BadInput(f"{name}: no checkpoint that this ReCap reads: {reason}") from error
    folder = _fetch(name, repository, commit, FILES)
    _check(name, repository, folder, "model.safetensors")
    return folder


def _is_repository(name: str) -> bool:
    """By the Hub's own rules, which change."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _fetch(name: str, repository: str, revision: str, files: tuple[str, ...]) -> Path:
    """These files of a repository, as far as it has them, in the cache's folder of the revision's commit."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub import errors as hub

    from captioning.trunks import look_up

    def snapshot(**where) -> Path:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files), **where))

    if COMMIT.fullmatch(revision) and _listing(repository, revision):
        try:
            return snapshot(local_files_only=True)  # a commit never changes: what is here is what the Hub has
        except hub.LocalEntryNotFoundError:
            pass
    reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else ""
    try:
        if not reason:
            look_up(constants.ENDPOINT)
    except OSError as error:
        reason = f"{constants.ENDPOINT} cannot be reached ({error.strerror or error})"
    page = f"{constants.ENDPOINT}/{repository}"
    try:
        folder = snapshot(local_files_only=bool(reason))
    except hub.GatedRepoError as error:
        raise BadInput(f"{name}: gated; ask for access at {page}, then: hf auth login") from error
    except hub.RepositoryNotFoundError as error:
        raise BadInput(
            f"{name}: no such repository at {constants.ENDPOINT}, or a private one; check the name, or: hf auth login"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise BadInput(f"{name}: the repository has no revision {revision}; its commits are at {page}/commits/main") from error
    except Exception as error:  # huggingface_hub raises a dozen kinds for "did not come"; each has the same way out
        cause = error.__cause__ or error
        said = getattr(cause, "strerror", None) or type(cause).__name__  # "No space left on device", or ConnectError
        reason = reason or f"it does not come from {constants.ENDPOINT} ({said})"
        raise BadInput(
            f"{name}: not whole in the Hugging Face cache, and {reason}; go online and run again, or name a checkpoint folder of your own"
        ) from error
    if reason:
        print(f"{name}: {reason}; what was fetched earlier is used", file=sys.stderr)
    return folder


def _check(name: str, repository: str, folder: Path, file: str) -> None:
    if (folder / file).is_file():
        return
    pickles = [path for path in _listing(repository, folder.name) if path.endswith(PICKLES)]
    pickled = f" but {pickles[0]}, a pickle; those are never fetched" if pickles else ""
    raise BadInput(f"{name}: no checkpoint of ReCap, it has no {file}{pickled}; {OTHERS}")


def _listing(repository: str, commit: str) -> list[str]:
    """The files of a commit, as the cache knows them; empty where it does not, and then it can't tell either whether it has them all."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [entry.path for entry in get_cached_repo_tree(repository, revision=commit)]
    except CachedRepoTreeNotFoundError:
        return []
