from pathlib import Path

import torch
import torch.nn.functional as F

from models.defaults import LatentPreview
from models.folder import load_autoencoder
from pipelines.preview import fit_preview, preview_images


def test_a_pixel_is_the_matrix_times_the_latent() -> None:
    preview = LatentPreview(((0.5, 0.0, 0.0), (0.0, -0.25, 1.0)), (0.0, 0.1, -1.0))
    latents = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 6)
    (image,) = preview_images(preview, latents, scale=2)
    assert image.size == (12, 8)
    assert image.getpixel((5, 5)) == (191, 76, 255)  # 0.5, -0.4 and 1 out of -1 .. 1


def test_numbers_out_of_range_or_missing_make_a_picture() -> None:
    preview = LatentPreview(((1.0, 1.0, 1.0),), (0.0, 0.0, 0.0))
    latents = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30]).reshape(1, 1, 2, 2)
    (image,) = preview_images(preview, latents, scale=1)
    assert image.getpixel((0, 0)) == (0, 0, 0)
    assert image.getpixel((1, 0)) == (255, 255, 255)


def test_the_fit_is_the_best_linear_one(tiny_model_folder: Path) -> None:
    autoencoder = load_autoencoder(tiny_model_folder)
    torch.manual_seed(0)
    pixels = F.interpolate(torch.rand(8, 3, 4, 4) * 2 - 1, (32, 32), mode="bilinear")
    preview = fit_preview(autoencoder, pixels)
    assert len(preview.weight) == autoencoder.latent_channels

    def error(candidate: LatentPreview) -> float:
        with torch.no_grad():
            latents = autoencoder.encode(pixels)
        small = F.interpolate(pixels, latents.shape[-2:], mode="area").permute(0, 2, 3, 1)
        found = latents.permute(0, 2, 3, 1) @ torch.tensor(candidate.weight) + torch.tensor(candidate.bias)
        return float((found - small).square().mean())

    best = error(preview)
    mean = pixels.mean((0, 2, 3)).tolist()
    assert best < error(LatentPreview(((0.0, 0.0, 0.0),) * len(preview.weight), (mean[0], mean[1], mean[2])))
    for channel in range(len(preview.weight)):
        weight = [list(row) for row in preview.weight]
        weight[channel][1] += 0.02
        moved = LatentPreview(tuple((r, g, b) for r, g, b in weight), preview.bias)
        assert error(moved) > best


def test_many_images_and_any_precision(tiny_model_folder: Path) -> None:
    autoencoder = load_autoencoder(tiny_model_folder)
    preview = fit_preview(autoencoder, torch.zeros(2, 3, 32, 32))  # one flat colour has no single solution
    images = preview_images(preview, torch.randn(3, autoencoder.latent_channels, 4, 4).half())
    assert [image.size for image in images] == [(32, 32)] * 3
