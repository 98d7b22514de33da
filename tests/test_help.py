"""--help of every command: an example that names the command, and no more than a screen or two; train.py's short list names real settings."""

import importlib
import re
import sys

import pytest

from captioning.config import RunConfig
from captioning.presets import preset
from captioning.systems import system_config
from captioning.train_help import SETTINGS

COMMANDS = {
    "caption.py": "caption",
    "train.py": "train",
    "benchmarks/run_all.py": "benchmarks.run_all",
    "benchmarks/speed.py": "benchmarks.speed",
    "benchmarks/pretrain_demo.py": "benchmarks.pretrain_demo",
    "reports/build.py": "reports.build",
    **{f"-m captioning.{name}": f"captioning.{name}" for name in ("data", "score", "verify", "errors", "doctor")},
}
LONGEST = 80  # lines


def shown(command: str, monkeypatch, capsys, *line: str) -> str:
    monkeypatch.setattr(sys, "argv", [command, *line])
    monkeypatch.setenv("COLUMNS", "160")
    try:
        assert not importlib.import_module(COMMANDS[command]).main()
    except SystemExit as left:
        assert not left.code
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_whose_options_exist(command, monkeypatch, capsys):
    said = shown(command, monkeypatch, capsys, "--help")
    assert len(said.splitlines()) <= LONGEST
    body = said.partition("\n\n")[2]  # the usage line before it names the command too
    examples = [line for line in body.splitlines() if f"python {command} " in line + " "]
    assert examples, said
    for line in examples:
        for option in re.findall(r" (--[a-z-]+)", line[line.index(f"python {command}") :]):
            assert option.startswith("--help") or re.search(rf"(^|[\s,\[]){option}(?![\w-])", said.replace(line, "")), option


@pytest.mark.parametrize(
    "line, defaults",
    [
        ("--system t5 --help", system_config("t5")),
        ("--preset corrected -h", preset("corrected")),
        ("--data DIR --help", RunConfig()),
        ("--help --system", RunConfig()),
    ],
)
def test_help_of_training_is_short_wherever_it_is_asked_for(line, defaults, monkeypatch, capsys):
    said = shown("train.py", monkeypatch, capsys, *line.split())
    assert len(said.splitlines()) <= LONGEST and "--help-all" in said
    assert re.search(rf"--decoder-lr +learning rate \(default {defaults.decoder_lr}\)", said)


def test_the_short_help_of_training_names_real_settings(monkeypatch, capsys):
    every = shown("train.py", monkeypatch, capsys, "--help-all")
    assert len(every.splitlines()) > LONGEST
    for group in SETTINGS.values():
        for name in group:
            assert re.search(rf"--{name}(?![\w-])", every), name
