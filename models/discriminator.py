"""The patch discriminator of stage 1's adversarial loss."""

from torch import nn

from models.errors import ConfigError

CHANNELS_PER_GROUP = 16


class PatchDiscriminator(nn.Sequential):
    """Pixels (B, 3, H, W) to how real each patch looks, (B, 1, H / 2^layers - 2, W / 2^layers - 2).

    PatchGAN (Isola et al. 2017, section 3.2.2) as in Esser et al. 2021, but normalised by group: batch
    statistics would tie a picture's loss to its neighbours in the batch and to the number of devices.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        if channels % CHANNELS_PER_GROUP:
            raise ConfigError(
                f"a discriminator of {channels} channels has no whole groups; take a multiple of "
                f"{CHANNELS_PER_GROUP}"
            )
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        inputs = channels
        for layer in range(1, layers + 1):
            outputs = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            parts += [
                nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(outputs // CHANNELS_PER_GROUP, outputs),
                nn.LeakyReLU(0.2),
            ]
            inputs = outputs
        super().__init__(*parts, nn.Conv2d(inputs, 1, 4, padding=1))
        self.smallest_pixels = 3 * 2**layers
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
