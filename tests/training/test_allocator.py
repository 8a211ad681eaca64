import ctypes
import sys

import pytest
import torch

from training.allocator import keep_freed_memory


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="this is about glibc"
)
def test_memory_that_was_freed_is_not_fetched_again():
    import resource

    def pages_fetched() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        kept = [torch.ones(10_000_000) for _ in range(4)]  # 40 MB each, more than glibc keeps by itself
        del kept
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    first, *later = (pages_fetched() for _ in range(8))
    assert min(later) < 0.1 * 4 * 10_000_000 * 4 / resource.getpagesize(), (first, later)
