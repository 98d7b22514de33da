"""Checkpoints by name: pulled from a stand-in of the Hub that answers as its HTTP interface does, by the real client, and pushed by the real command."""

import base64
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

from captioning.bad_input import BadInput
from captioning.checkpoint import load_checkpoint, save_checkpoint
from captioning.config import RunConfig
from captioning.hub import resolve
from captioning.model_card import write_card
from captioning.vocabulary import Vocabulary
from models import build_model
from tests.tiny import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"
VOCABULARY = Vocabulary.build(["a red square on the left", "a green square"], 1)


class StandIn(BaseHTTPRequestHandler):
    """The part of the Hub's interface that pulling and pushing use. repositories: name -> {commit: {path: bytes}}, the last commit is main."""

    protocol_version = "HTTP/1.1"

    def __init__(self, repositories, asked, *arguments):
        self.repositories, self.asked = repositories, asked
        super().__init__(*arguments)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        found = found or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path)
        if not found:  # what the client asks besides
            return self.answer(404, {})
        repository, what, revision = found[1], found[2], found[3]
        commits = self.repositories.get(repository)
        if commits is None:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        files = commits[commit]
        if what == "revision":
            return self.answer_json({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
        if what == "tree":
            oid = lambda content: hashlib.sha1(content).hexdigest()  # noqa: E731
            return self.answer_json([{"type": "file", "path": n, "size": len(c), "oid": oid(c)} for n, c in files.items()])
        if repository.startswith("gated/"):
            return self.answer(403, {"X-Error-Code": "GatedRepo"})
        content = files[found[4]]
        self.answer(200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}, content)

    do_HEAD = do_GET

    def do_POST(self):
        """What `hf upload` says: make the repository, check the card, how to send each file, the files in one commit."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"POST {path}")
        if path == "/api/repos/create":
            return self.answer_json({"url": f"http://{self.headers['Host']}/{json.loads(body)['organization']}/{json.loads(body)['name']}"})
        if path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        repository, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
        if what == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer_json({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
        self.repositories[repository] = {NEW: files}
        self.answer_json({"commitUrl": f"http://{self.headers['Host']}/{repository}/commit/{NEW}", "commitOid": NEW, "hookOutput": ""})

    def answer_json(self, content):
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def answer(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(repositories: dict, asked: list):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(StandIn, repositories, asked))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A checkpoint with its card, and beside it what must not travel."""
    folder, config = tmp_path_factory.mktemp("hub") / "whole", RunConfig(**SETTINGS)
    torch.manual_seed(7)
    facts = {"run_id": "tiny-0-abc", "data": {"name": "tiny", "fingerprint": "f"}, "epoch": 1, "scores": {"val_bleu4_free": 1.0}}
    save_checkpoint(folder, build_model(config, len(VOCABULARY)), config, VOCABULARY, facts)
    write_card(folder)
    (folder / "state.pt").write_bytes(b"a training state")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def hub(whole, tmp_path, monkeypatch):
    """The stand-in, an empty cache, and what was asked of it."""
    repositories = {
        "someone/ours": {OLD: {"README.md": b"of old"}, NEW: contents(whole) | {"weights.bin": b"a pickle", "pictures/a.jpg": b"..."}},
        "someone/pickled": {NEW: {"README.md": b"# a model", "pytorch_model.bin": b"a pickle"}},
        "someone/half": {NEW: {"config.json": (whole / "config.json").read_bytes(), "model.bin": b"a pickle"}},
        "someone/gpt2": {NEW: {"config.json": b'{"model_type": "gpt2"}', "model.safetensors": b"x" * 1000}},
        "someone/newer": {NEW: {"config.json": b'{"schema": 99}', "model.safetensors": b"x" * 1000}},
        "gated/ours": {NEW: contents(whole)},
    }
    asked = []
    with serving(repositories, asked) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield repositories, asked


def complaint(name: str) -> str:
    with pytest.raises(BadInput) as found:
        resolve(name)
    assert str(found.value).startswith(name) or f"--checkpoint {name}" in str(found.value)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_what_has_no_prefix_is_a_path():
    assert resolve("results/x") == Path("results/x") and resolve(Path("a/b")) == Path("a/b") and resolve("./hf:x") == Path("hf:x")


def test_a_checkpoint_comes_whole_and_without_pickles(hub, whole, tmp_path, capsys):
    folder = resolve("hf:someone/ours")
    assert contents(folder) == {name: content for name, content in contents(whole).items() if name != "state.pt"}
    assert not [asked for asked in hub[1] if asked.endswith((".pt", ".bin", ".jpg"))]
    said = capsys.readouterr()
    assert f"hf:someone/ours@{NEW}" in said.err and not said.out
    model, vocabulary, description = load_checkpoint(folder, build_model)
    own, _, _ = load_checkpoint(whole, build_model)
    assert vocabulary.words == VOCABULARY.words and description["run_id"] == "tiny-0-abc"
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_pinned_commit_stays_and_needs_no_network(hub, whole, monkeypatch, capsys):
    repositories, asked = hub
    pinned = f"hf:someone/ours@{NEW}"
    folder = resolve(pinned)
    assert not capsys.readouterr().err.count("is commit")  # it is pinned already
    repositories["someone/ours"]["0" * 39 + "3"] = {"config.json": b"{}"}
    asked.clear()
    assert resolve(Path(pinned)) == folder and not asked
    with pytest.raises(BadInput, match="no checkpoint that this ReCap reads"):
        resolve("hf:someone/ours")  # main has moved on
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://no-such-host.invalid")
    assert resolve(pinned) == folder


def test_offline_the_branch_is_what_it_was(hub, monkeypatch, capsys):
    folder = resolve("hf:someone/ours")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://no-such-host.invalid")
    capsys.readouterr()
    assert resolve("hf:someone/ours@main") == folder
    said = capsys.readouterr().err
    assert "no-such-host.invalid cannot be reached" in said and "fetched earlier" in said and f"hf:someone/ours@{NEW}" in said
    said = complaint("hf:someone/other")
    assert "not whole in the Hugging Face cache, and http://no-such-host.invalid cannot be reached" in said and "go online" in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in complaint("hf:someone/other")
    (folder / "model.safetensors").unlink()
    assert "not whole in the Hugging Face cache" in complaint("hf:someone/ours")


@pytest.mark.parametrize("name, said", [
    ("hf:someone/nothing", "no such repository at http"),
    ("hf:gated/ours", "gated; ask for access at http"),
    ("hf:someone/ours@v9", "the repository has no revision v9"),
    (f"hf:someone/ours@{'a' * 40}", "the repository has no revision aaaa"),
    (f"hf:someone/ours@{OLD}", "it has no config.json;"),
    ("hf:someone/pickled", "it has no config.json but pytorch_model.bin, a pickle; those are never fetched"),
    ("hf:someone/half", "it has no model.safetensors but model.bin, a pickle"),
    ("hf:someone/gpt2", "no checkpoint that this ReCap reads: config.json: cut or not a checkpoint's ('schema'); name a repository"),
    ("hf:someone/newer", "checkpoint schema 99, this version reads 1; a newer ReCap wrote it: update ReCap"),
    ("hf:ours", "no name at the Hub"),
    ("hf:", "no name at the Hub"),
    ("hf:someone/../ours", "no name at the Hub"),
    ("hf:someone/ours@../../x", "no name at the Hub"),
    ("hf:someone/ours@", "no name at the Hub"),
    ("hf:someone/a..b", "no name at the Hub"),
])  # fmt: skip
def test_what_does_not_come_is_one_line(hub, name, said):
    assert said in complaint(name)
    assert not [asked for asked in hub[1] if asked.startswith("GET") and asked.endswith((".safetensors", ".bin"))]


def test_a_hub_that_is_down_is_one_line(hub, monkeypatch):
    with serving({}, []) as address:
        pass  # nobody listens there any more
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    assert f"it does not come from {address} (ConnectError)" in complaint("hf:someone/ours")


def test_the_documented_line_pushes_what_is_pulled(whole, tmp_path):
    """The card's line run as it stands, by the installed command, and its work pulled by another process that knows HF_ENDPOINT alone."""
    line = re.search(r"`(hf upload .+)`", (whole / "README.md").read_text())[1]
    repositories, asked = {}, []
    hf = Path(sys.executable).with_name("hf")
    arguments = line.replace("OWNER/NAME", "someone/new").replace("CHECKPOINT", str(whole)).split()[1:]
    with serving(repositories, asked) as address:
        places = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_of_nobody", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        pushed = subprocess.run([hf, *arguments], env=os.environ | places, capture_output=True, text=True, timeout=60)
        assert pushed.returncode == 0, pushed.stderr
        program = "from captioning.hub import resolve; print(resolve('hf:someone/new'))"
        pulled = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=os.environ | places, capture_output=True, text=True, timeout=60
        )
    assert pulled.returncode == 0, pulled.stderr
    assert contents(Path(pulled.stdout.strip())) == {name: content for name, content in contents(whole).items() if name != "state.pt"}
    assert "state.pt" not in repositories["someone/new"][NEW]
