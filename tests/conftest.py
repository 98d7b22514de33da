"""Small models only wait for each other on several threads; a test that wants more says so. Children inherit it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
