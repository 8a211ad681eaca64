"""Every random draw of a training as a function of seed, step and purpose, so a resumed run repeats it."""

import hashlib


def seed_for(seed: int, step: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose in one step; purposes never share a stream of numbers."""
    digest = hashlib.blake2b(f"{seed} {step} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
