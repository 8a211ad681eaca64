import ctypes
import subprocess
import sys

import pytest

PAGES_FETCHED = """
import resource
import torch
from training.allocator import keep_freed_memory

def pages_fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(10_000_000) for _ in range(4)]  # 40 MB each, more than glibc keeps by itself
    del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
first, *later = (pages_fetched() for _ in range(8))
assert min(later) < 0.1 * 4 * 10_000_000 * 4 / resource.getpagesize(), (first, later)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="this is about glibc"
)
def test_memory_that_was_freed_is_not_fetched_again():
    # A process of its own: what earlier tests left in the heap decides where the next blocks lie.
    subprocess.run([sys.executable, "-c", PAGES_FETCHED], check=True)
