"""Time in blocks of runs: on some machines the clock of the processor stands still for milliseconds."""

from timeit import Timer

BLOCK_SECONDS = 0.02  # of runs that are measured together


def runs_of_a_block(timer: Timer) -> int:
    """How many runs are a block: one of what is slow. Runs them, which warms the caches up."""
    runs = 1
    while timer.timeit(runs) < BLOCK_SECONDS:
        runs *= 2
    return runs
