import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from models.errors import ConfigError
from models.unet import PRESETS, build_unet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# Parameters on latents of 8 channels and text states of 384 numbers.
SIZES = {
    "tiny": 1_270_920,
    "tiny-pixels": 1_236_904,
    "small": 3_410_056,
    "small-pixels": 3_367_112,
    "starter": 22_531_592,
    "medium": 59_139_912,
    "one-gpu": 264_325_640,
    "many-gpu": 859_535_368,
}


@pytest.mark.parametrize("preset", ["tiny", "tiny-pixels", "small", "small-pixels", "starter"])
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


@pytest.mark.parametrize("preset", PRESETS)
def test_every_size_has_as_many_parameters_as_it_says(preset):
    with torch.device("meta"):
        assert count(build_unet(preset, 8, 384)) == SIZES[preset]


@pytest.mark.parametrize(("latents", "pixels"), [("tiny", "tiny-pixels"), ("small", "small-pixels")])
def test_the_pixel_unet_is_as_large_as_those_of_latents_and_attends_at_the_same_resolutions(latents, pixels):
    with torch.device("meta"):
        on_pixels = build_unet(pixels, 3, 384)
        sizes = [count(build_unet(latents, channels, 384)) for channels in (3, 4, 8, 16)] + [count(on_pixels)]
    assert max(sizes) < 1.05 * min(sizes)
    coarse = {key: PRESETS[latents][key] for key in ("block_out_channels", "attention_head_dim")}
    levels = len(coarse["block_out_channels"])
    for key, values in coarse.items():  # so at 4 times the resolution its coarse levels are those of f = 4
        assert PRESETS[pixels][key][-levels:] == values
    attends = ["Cross" in block for block in build_types(pixels)]
    assert attends == [False] * (len(attends) - levels) + ["Cross" in block for block in build_types(latents)]


def build_types(preset):
    with torch.device("meta"):
        return build_unet(preset, 4, 32).config.down_block_types


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["one-gpu", "many-gpu"])
def test_the_large_sizes_work_on_latents_of_32_by_32(preset):
    with torch.device("meta"):
        unet = build_unet(preset, 8, 384)
        unet.enable_gradient_checkpointing()
        output = unet(
            torch.empty(2, 8, 32, 32),
            torch.empty(2),
            encoder_hidden_states=torch.empty(2, 4, 384),
            encoder_attention_mask=torch.ones(2, 4, dtype=torch.bool),
            class_labels=torch.empty(2, 384),
        ).sample
        assert output.shape == (2, 8, 32, 32)
        output.sum().backward()
    assert all(parameter.grad is not None for parameter in unet.parameters())


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    unet = build_unet("tiny", 4, 32, dropout=0.2).train()
    for parameter in unet.parameters():  # untrained, nothing flows back past the zero outputs
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    z, hidden, pooled = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 32), torch.randn(2, 32)

    def gradients():
        unet.zero_grad()
        torch.manual_seed(1)
        unet(z, 500.0, encoder_hidden_states=hidden, class_labels=pooled).sample.square().mean().backward()
        return [parameter.grad.clone() for parameter in unet.parameters()]

    plain = gradients()
    unet.enable_gradient_checkpointing()
    assert unet.is_gradient_checkpointing
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def blocks(attention, levels):
    """Block types of `levels` levels, each with cross-attention or without."""
    return {
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if i in attention else "DownBlock2D" for i in levels
        ),
        "up_block_types": tuple(
            "CrossAttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(levels)
        ),
    }


LDM_256 = {"in_channels": 3, "out_channels": 3, "block_out_channels": (192, 384, 576, 960)}
LAYOUT = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (128, 256, 384, 512),
    "transformer_layers_per_block": 3,
}
RDM = {"in_channels": 16, "out_channels": 16, "block_out_channels": (448, 896, 1344, 1792)}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize(
    ("published", "text_dim", "settings"),
    [
        (859_520_964, 768, {}),  # Stable Diffusion 1
        (859_535_364, 768, {"in_channels": 9}),  # its inpainting model
        (865_910_724, 1024, {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}),  # 2
        (2_567_463_684, 2048, SDXL | blocks({1, 2}, range(3))),
        (872_300_484, 1280, {}),  # LDM txt2img-1p4B
        (403_623_939, 640, LDM_256 | blocks({1, 2, 3}, range(4))),  # LDM text2img256
        (400_920_579, 512, LDM_256 | blocks({1, 2, 3}, range(4))),  # LDM cin256-v2
        (
            394_984_196,
            512,
            {"block_out_channels": (256, 512, 1024)} | blocks({0, 1, 2}, range(3)),
        ),  # cin-vq-f8
        (246_277_379, 512, LAYOUT | blocks({1, 2, 3}, range(4))),  # LDM layout2img-openimages256
        (1_335_480_400, 768, RDM | blocks({0, 1, 2}, range(4))),  # retrieval-augmented, 768 px
    ],
)
def test_the_published_models_have_their_published_sizes(published, text_dim, settings):
    with torch.device("meta"):
        assert count(UNet2DConditionModel(cross_attention_dim=text_dim, **settings)) == published


RESNETS_RESIZE = {"downsample_type": "resnet", "upsample_type": "resnet"}


@pytest.mark.parametrize(
    ("published", "channels", "block_out_channels", "attention", "settings"),
    [
        (274_056_163, (3, 3), (224, 448, 672, 896), {1, 2, 3}, {}),  # celeba, ffhq and beds
        (
            294_966_916,
            (4, 4),
            (192, 384, 384, 768, 768),
            {0, 1, 2, 3},
            {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32} | RESNETS_RESIZE,
        ),  # lsun_churches
        (387_245_827, (7, 3), (256, 512, 768, 1024), {1, 2, 3}, RESNETS_RESIZE),  # inpainting_big
        (113_622_563, (6, 3), (160, 320, 320, 640), {3}, {}),  # bsr_sr
        (215_229_315, (6, 3), (128, 512, 1024), set(), {}),  # semantic_synthesis
    ],
)
def test_the_ldms_without_words_have_their_published_sizes(
    published, channels, block_out_channels, attention, settings
):
    plain = ("Resnet{}sampleBlock2D" if settings else "{}Block2D").format
    levels = range(len(block_out_channels))
    with torch.device("meta"):
        unet = UNet2DModel(
            in_channels=channels[0],
            out_channels=channels[1],
            block_out_channels=block_out_channels,
            down_block_types=["AttnDownBlock2D" if i in attention else plain("Down") for i in levels],
            up_block_types=["AttnUpBlock2D" if i in attention else plain("Up") for i in reversed(levels)],
            attention_head_dim=32,
            **settings,
        )
        assert count(unet) == published


def test_an_unknown_size_lists_those_there_are():
    with pytest.raises(ConfigError, match="small, small-pixels, starter, medium, one-gpu, many-gpu"):
        build_unet("huge", 4, 32)
