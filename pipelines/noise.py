"""The random numbers of a picture: its own generator, on the CPU in float32, whatever batch or device."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode


def philox_randn(seed: int, call: int, shape: Sequence[int]) -> Tensor:
    """Normal numbers as torch.randn draws them on an NVIDIA GPU in call number `call` (from 0), float32.

    Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") over the counter
    (call, 0, element, 0), keyed by the 64-bit seed; the first two words of each block go through Box-Muller.
    """
    count = int(np.prod(shape))
    words = [np.full(count, call, np.uint64), np.zeros(count, np.uint64)]
    words += [np.arange(count, dtype=np.uint64), np.zeros(count, np.uint64)]
    key_low, key_high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        product_0, product_2 = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (product_2 >> np.uint64(32)) ^ words[1] ^ np.uint64(key_low),
            product_2 & low,
            (product_0 >> np.uint64(32)) ^ words[3] ^ np.uint64(key_high),
            product_0 & low,
        ]
        key_low, key_high = (key_low + 0x9E3779B9) & 0xFFFFFFFF, (key_high + 0xBB67AE85) & 0xFFFFFFFF
    uniform: NDArray[np.float64] = (words[0].astype(np.float64) + 0.5) * 2.0**-32
    angle: NDArray[np.float64] = (words[1].astype(np.float64) + 0.5) * 2.0**-31 * np.pi
    normal = np.sqrt(-2 * np.log(uniform)) * np.sin(angle)
    return torch.from_numpy(normal.astype(np.float32)).reshape(tuple(shape))


def spherical_mix(first: Tensor, second: Tensor, strength: float) -> Tensor:
    """Noises (B, C, h, w) mixed along the great circle between them, so that the mixture keeps their length.

    As AUTOMATIC1111 does it, each column of each channel has an angle of its own.
    """
    cosine = F.cosine_similarity(first, second, dim=-2).clamp(-1, 1).unsqueeze(-2)  # (B, C, 1, w)
    angle = cosine.acos()
    mixed = (((1 - strength) * angle).sin() * first + (strength * angle).sin() * second) / angle.sin()
    # Between equal directions there is no circle, and the straight line is as good.
    return torch.where(cosine.abs() > 0.9995, torch.lerp(first, second, strength), mixed)


class Noise:
    """Independent normal numbers for a batch of images, one generator per image with the image's seed.

    The first numbers, a picture's noise, are mixed with those of `variation_seeds` by `variation_strength`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        kind: Literal["cpu", "nv"] = "cpu",
        variation_seeds: Sequence[int] = (),
        variation_strength: float = 0.0,
    ) -> None:
        self.seeds = list(seeds)
        self.kind = kind
        self.variation_seeds = list(variation_seeds) if variation_strength else []
        self.variation_strength = variation_strength
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in self.seeds]
        self._calls = 0

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next numbers of every image: (images, *shape) float32 on the CPU."""
        if self.kind == "nv":
            images = [philox_randn(seed, self._calls, shape) for seed in self.seeds]
        else:
            images = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        self._calls += 1
        drawn = torch.stack(images)
        if self._calls == 1 and self.variation_seeds:
            return spherical_mix(
                drawn, Noise(self.variation_seeds, self.kind).draw(shape), self.variation_strength
            )
        return drawn


class DrawFrom(TorchFunctionMode):
    """Within this context torch.randn takes its numbers from a Noise.

    Most of diffusers' schedulers draw a step's noise themselves, for the whole batch, and some take none from
    outside; and torchsde draws in the nodes of its trees, each with a seed of its own.
    """

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self._noise = noise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.randn:
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is None:
            return self._noise.draw(args[0][1:]).to(kwargs["device"], kwargs["dtype"])
        if self._noise.kind == "nv":
            return philox_randn(generator.initial_seed(), 0, args[0]).to(kwargs["device"], kwargs["dtype"])
        return func(*args, **kwargs)
