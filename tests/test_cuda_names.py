"""Code that only a GPU runs is run by nobody here: at least what it calls of torch.cuda must exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for pattern in ("*.py", "captioning/**/*.py", "benchmarks/**/*.py") for path in ROOT.glob(pattern)]
NAMES = sorted({name for path in FILES for name in re.findall(r"torch\.cuda\.(\w+)", path.read_text(encoding="utf-8"))})


def test_some_are_found():
    assert {"is_available", "mem_get_info"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name):
    assert hasattr(torch.cuda, name)
