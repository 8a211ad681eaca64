import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel

from models.autoencoder import PRESETS, Autoencoder, build_autoencoder
from models.errors import ConfigError
from models.normalizer import LatentNormalizer, fold_normalization


@pytest.mark.parametrize("regularizer", ["kl", "vq"])
@pytest.mark.parametrize(
    ("preset", "factor"),
    [
        ("tiny", 4),
        ("small-f4", 4),
        ("small-f8", 8),
        ("small-f16", 16),
        ("starter", 8),
        ("f4", 4),
        ("f8", 8),
        ("f16", 16),
    ],
)
def test_latents_are_smaller_by_the_factor_and_pictures_come_back_at_their_size(preset, factor, regularizer):
    assert preset in PRESETS
    with torch.device("meta"):  # shapes alone, so that the sizes of the paper cost nothing
        model = build_autoencoder(preset, regularizer).eval()
        pixels = torch.empty(2, 3, 64, 32)
        latents = model.encode(pixels)
        output = model.decode(latents)
    assert model.regularizer == regularizer
    assert model.downsampling_factor == factor
    assert latents.shape == (2, model.latent_channels, 64 // factor, 32 // factor)
    assert output.shape == pixels.shape


@pytest.mark.parametrize(
    ("preset", "regularizer", "parameters"),
    [
        ("f4", "kl", 55_312_063),
        ("f8", "kl", 83_653_863),
        ("f16", "kl", 69_610_963),
        ("f4", "vq", 55_322_782),
        ("f8", "vq", 67_717_295),
        ("f16", "vq", 69_593_371),
    ],
)
def test_the_papers_autoencoders_have_the_size_of_its_released_ones(preset, regularizer, parameters):
    with torch.device("meta"):
        model = build_autoencoder(preset, regularizer)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_papers_other_autoencoders_have_the_size_of_its_released_ones(monkeypatch):
    """Those that are no preset here, as diffusers' classes build them."""
    f4, f8 = PRESETS["f4"]["vq"], PRESETS["f8"]["vq"]
    monkeypatch.setitem(PRESETS, "f4-noattn", {"vq": f4 | {"mid_block_add_attention": False}})
    monkeypatch.setitem(PRESETS, "f8-n256", {"vq": f8 | {"num_vq_embeddings": 256}})
    with torch.device("meta"):
        without_attention = build_autoencoder("f4-noattn", "vq")
        few_codes = build_autoencoder("f8-n256", "vq")
        f32 = AutoencoderKL(
            block_out_channels=(128, 128, 256, 256, 512, 512),
            layers_per_block=2,
            latent_channels=64,
            down_block_types=("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",) * 2,
            up_block_types=("AttnUpDecoderBlock2D",) * 2 + ("UpDecoderBlock2D",) * 4,
        )
    sizes = [sum(p.numel() for p in model.parameters()) for model in (without_attention, few_codes, f32)]
    assert sizes == [53_219_486, 67_652_783, 103_880_131]


def test_decoding_vq_latents_quantizes_them_first():
    torch.manual_seed(0)
    model = build_autoencoder("tiny", "vq").eval()
    latents = torch.randn(2, model.latent_channels, 4, 4)
    codes, numbers = model.quantize(latents)
    distances = (latents[:, None] - model.vae.quantize.embedding.weight.view(1, -1, 4, 1, 1)).square().sum(2)
    assert torch.equal(numbers, distances.argmin(1))
    assert torch.equal(codes.movedim(1, -1), model.vae.quantize.embedding(numbers))
    theirs = torch.nn.functional.pixel_shuffle(model.vae.decode(latents).sample, 2)
    assert torch.equal(model.decode(latents), model.reconstruct(codes))
    assert torch.allclose(model.decode(latents), theirs, atol=1e-5)
    assert not torch.allclose(model.decode(latents), model.reconstruct(latents), atol=1e-2)


def test_latents_are_quantized_alike_in_parts(monkeypatch):
    # In double precision, in which no two codes are equally near to what rounding leaves of a distance.
    model = build_autoencoder("tiny", "vq").double()
    latents = torch.randn(2, model.latent_channels, 5, 7, dtype=torch.double)
    codes, numbers = model.quantize(latents)
    monkeypatch.setattr("models.autoencoder.LATENTS_AT_ONCE", 16)
    again, same = model.quantize(latents)
    assert torch.equal(numbers, same)
    assert torch.equal(codes, again)


def test_vq_latents_are_those_before_quantization_and_no_sample():
    model = build_autoencoder("tiny", "vq").eval()
    pixels = torch.rand(1, 3, 16, 16)
    latents = model.encode(pixels, torch.Generator().manual_seed(1))
    assert torch.equal(latents, model.encode(pixels))
    assert not torch.isin(latents, model.vae.quantize.embedding.weight).any()


def test_folding_moves_codes_with_latents_and_changes_neither_choice_nor_pixel():
    torch.manual_seed(0)
    model = build_autoencoder("tiny", "vq").double().eval()
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.double) * 2 - 1
    raw = model.raw_latents(pixels)
    # Codes among the latents, so that many are chosen.
    model.vae.quantize.embedding.weight.data = raw.movedim(1, -1).flatten(0, 2)[:64] + 0.1 * torch.rand(64, 4)
    before, (_, numbers) = model.decode(raw), model.quantize(raw)
    assert len(numbers.unique()) > 16
    mean, std = torch.randn(4, dtype=torch.double), torch.tensor([0.3], dtype=torch.double)
    fold_normalization(model.vae, mean, std)
    after = model.encode(pixels)
    assert torch.allclose(after, (raw - mean.view(1, -1, 1, 1)) / std, atol=1e-12)
    assert torch.equal(model.quantize(after)[1], numbers)
    assert torch.allclose(model.decode(after), before, atol=1e-12)
    with pytest.raises(ValueError, match="one standard deviation, not 4"):
        fold_normalization(model.vae, mean, torch.ones(4))


def test_a_channel_that_never_changes_is_folded_to_zero_and_comes_back():
    model = build_autoencoder("tiny").double().eval()
    model.vae.quant_conv.weight.data[0] = 0
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.double) * 2 - 1
    raw, before = model.raw_latents(pixels), model.decode(model.encode(pixels))
    std = raw.std((0, 2, 3))
    assert std[0] == 0
    fold_normalization(model.vae, raw.mean((0, 2, 3)), std)
    latents = model.encode(pixels)
    assert latents[:, 0].abs().max() < 1e-6
    assert torch.isfinite(model.posterior(pixels).std).all()
    assert torch.allclose(model.decode(latents), before, atol=1e-9)


def test_the_channels_of_vq_latents_are_those_of_the_codes():
    model = Autoencoder(
        VQModel(block_out_channels=(8,), norm_num_groups=8, latent_channels=6, vq_embed_dim=2)
    )
    assert model.latent_channels == 2
    assert model.encode(torch.rand(1, 3, 8, 8)).shape == (1, 2, 8, 8)


def test_a_plain_three_channel_autoencoder_is_read_without_folding_pixels():
    model = Autoencoder(AutoencoderKL(block_out_channels=(8,), norm_num_groups=8))
    pixels = torch.rand(1, 3, 8, 8)
    assert model.patch_size == 1
    assert torch.equal(model.posterior(pixels).mode(), model.vae.encode(pixels).latent_dist.mode())


def test_other_input_channels_are_refused():
    with pytest.raises(ConfigError, match="5 input channels"):
        Autoencoder(AutoencoderKL(in_channels=5, block_out_channels=(8,), norm_num_groups=8))


def test_a_generator_makes_latents_a_sample_that_it_decides():
    model = build_autoencoder("tiny").eval()
    pixels = torch.rand(1, 3, 16, 16)
    first, again = (model.encode(pixels, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, model.encode(pixels))


@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": 0.18215},
        {"scaling_factor": 0.3611, "shift_factor": 0.1159},
        {"scaling_factor": 1.0, "latents_mean": [0.1, 0.2], "latents_std": [2.0, 3.0]},
    ],
)
def test_normalising_follows_each_convention_and_comes_back(config):
    normalizer = LatentNormalizer({"latent_channels": 2, **config})
    raw = torch.randn(3, 2, 4, 4)
    if "latents_mean" in config:
        expected = (raw - torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)) / torch.tensor([2.0, 3.0]).view(
            1, 2, 1, 1
        )
    else:
        expected = (raw - config.get("shift_factor", 0.0)) * config["scaling_factor"]
    assert torch.allclose(normalizer.normalize(raw), expected, atol=1e-6)
    assert torch.allclose(normalizer.denormalize(normalizer.normalize(raw)), raw, atol=1e-6)
