import pytest
import torch

from models.errors import ConfigError
from models.unet import PRESETS, build_unet


@pytest.mark.parametrize("preset", PRESETS)
def test_an_untrained_unet_of_every_size_predicts_zero(preset):
    unet = build_unet(preset, 8, 384).eval()
    with torch.no_grad():
        output = unet(
            torch.randn(1, 8, 8, 8),
            500.0,
            encoder_hidden_states=torch.randn(1, 4, 384),
            encoder_attention_mask=torch.ones(1, 4, dtype=torch.bool),
            class_labels=torch.randn(1, 384),
        ).sample
    assert output.shape == (1, 8, 8, 8)
    assert not output.any()


def test_the_starter_stays_within_its_size():
    with torch.device("meta"):
        count = sum(p.numel() for p in build_unet("starter", 8, 384).parameters())
    assert count < 25_000_000


def test_an_unknown_size_lists_those_there_are():
    with pytest.raises(ConfigError, match="tiny, starter"):
        build_unet("huge", 4, 32)
