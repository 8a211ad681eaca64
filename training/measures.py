"""How near two pictures are."""

from torch import Tensor


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of each picture (B,), both (B, 3, H, W) in [-1, 1]; the output is clamped to it."""
    mse = ((output.clamp(-1, 1) - target) / 2).square().flatten(1).mean(1)
    return -10 * mse.clamp(min=1e-10).log10()
