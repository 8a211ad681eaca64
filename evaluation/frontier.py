"""`evaluate frontier`: what more compute buys, over samplers and steps or over the first stage."""

import sys
from argparse import Namespace
from collections.abc import Sequence

import torch

from models.errors import RequestError

FEWEST_PICTURES = 20  # of which an interval says something


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of (cost, badness) nobody beats: no other is at least as good in both and better in one."""
    return [
        not any(
            other[0] <= point[0] and other[1] <= point[1] and tuple(other) != tuple(point) for other in points
        )
        for point in points
    ]


def say(text: str) -> None:
    """Tell how far it is, beside the result."""
    print(text, file=sys.stderr, flush=True)


def main(args: Namespace) -> int:
    """Run the command: over the first stage where `args.first_stages` names some, else over samplers."""
    if args.count is not None and args.count < FEWEST_PICTURES:
        raise RequestError(f"--count is {args.count}; of fewer than {FEWEST_PICTURES} nothing can be said")
    torch.set_num_threads(1)  # what is measured is the work, not how many of the cores are free
    if args.first_stages:
        from evaluation import first_stages

        return first_stages.main(args)
    from evaluation import sampler_frontier

    return sampler_frontier.main(args)
