import torch

from models.defaults import LatentPreview
from pipelines.inside.views import channel_pictures, step_pictures
from pipelines.result import StepEvent

PREVIEW = LatentPreview(((0.5, 0.0, 0.0), (0.0, 0.5, 0.0)), (0.1, 0.0, -0.5))


def an_event(noisy: torch.Tensor, clean: torch.Tensor) -> StepEvent:
    return StepEvent(
        image_index=0, images=1, step=1, total=2, sigma=1.0, latents=noisy, denoised=clean, sample=noisy
    )


def test_where_noisy_and_clean_agree_their_difference_is_grey() -> None:
    clean = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    noisy = clean.clone()
    noisy[0, 0, 1, 2] += 1
    pictures = step_pictures(an_event(noisy, clean), PREVIEW)
    assert [picture.size for picture in pictures] == [(4, 3)] * 3
    difference = pictures[2]
    assert difference.getpixel((0, 0)) == (128, 128, 128)
    assert difference.getpixel((2, 1)) == (191, 128, 128)  # half a unit of red
    assert pictures[0].getpixel((0, 0)) == pictures[1].getpixel((0, 0))


def test_a_model_without_a_preview_shows_its_first_channels() -> None:
    clean = torch.zeros(1, 4, 2, 2)
    clean[0, 2] = 1
    red, green, blue = step_pictures(an_event(clean, clean), None)[1].getpixel((0, 0))  # type: ignore[misc]
    assert blue > red == green


def test_channels_are_grey_with_zero_in_the_middle() -> None:
    latents = torch.tensor([0.0, 3.0, -3.0, 9.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert [picture.getpixel((0, 0)) for picture in channel_pictures(latents)] == [128, 255, 0, 255]
