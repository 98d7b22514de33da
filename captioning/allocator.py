"""glibc's malloc keeps what was freed, in place of giving every large block back to the system.

A layer's activations are blocks of tens of megabytes. By default each is mapped anew and given back when it is freed, and the kernel fills it with zeros page by
page when it is touched: for ConvNeXt-S on 32 images a quarter of the forward pass (reports/LOG.md). The price: a process keeps its largest heap.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MOST = 2**31 - 1  # bytes free at the heap's end before some are given back; mallopt takes an int


def keep_freed_memory() -> bool:
    """For this process and those forked from it. Whether it was done: elsewhere than on glibc nothing changes."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, MOST))
    except (OSError, AttributeError):  # another C library: musl has no mallopt
        return False
