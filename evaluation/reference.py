"""What the measures say of the starter's real pictures: the scale to read those of drawn ones by.

`python -m evaluation.reference --data data/starter`
"""

from argparse import ArgumentParser
from pathlib import Path
from random import Random

import torch

from evaluation.copying import copied, nearest_distances, nearest_others
from evaluation.diffusion import Real
from evaluation.distances import kernel_distance
from evaluation.embeddings import embed_files
from evaluation.starter_data import read_things

SAMPLE = 900  # as many as three seeds of 300 captions


def main(data: Path, resolution: int) -> None:
    """Print the lines."""
    things = read_things(data)
    real = Real(things, embed_files([thing.file for thing in things], resolution))
    (train, shown), (held_out, theirs) = real.of("train"), real.of("held-out pair")

    usual = nearest_distances(held_out, theirs.concepts, train, shown)
    generator = torch.Generator().manual_seed(0)
    again = usual[torch.randint(len(usual), (2000, len(usual)), generator=generator)].quantile(0.05, dim=1)
    low, high = again.quantile(torch.tensor([0.025, 0.975])).tolist()
    counted = copied(nearest_others(train, shown), usual)
    print(f"threshold {usual.quantile(0.05):.4f}, of {len(usual)} drawn again {low:.4f} to {high:.4f}")
    print(f"training pictures below it, each beside the others of its concept: {counted.float().mean():.1%}")
    styles = sorted(set(shown.styles))
    of_style = {style: torch.tensor([one == style for one in shown.styles]) for style in styles}
    for style, at in of_style.items():
        print(f"  {style}: {counted[at].float().mean():.1%}")

    first, second = train[Random(0).sample(range(len(train)), 2 * SAMPLE)].chunk(2)
    print(f"kernel distance of two samples: {kernel_distance(first, second):.4f}")
    print(f"held-out pairs to training: {kernel_distance(train, held_out):.4f}")
    for style, at in of_style.items():
        print(f"  {style} to the others: {kernel_distance(train[~at], train[at]):.4f}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="from `data starter`")
    parser.add_argument("--resolution", type=int, default=128, metavar="PIXELS")
    args = parser.parse_args()
    main(args.data, args.resolution)
