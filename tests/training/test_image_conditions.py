import pytest
import torch

from models.defaults import ImageCondition
from models.errors import ConfigError
from models.folder import load_autoencoder
from models.image_condition import image_condition
from training.cache import LiveLatents
from training.config import Data, DiffusionConfig, DiffusionModel
from training.data.pictures import load_pictures
from training.image_conditions import Blurred, ShownPictures, blurred, image_condition_of

INPAINT, UPSCALE = ImageCondition("inpaint"), ImageCondition("upscale", 4)


@pytest.fixture
def pictures(picture_folder):
    return load_pictures(Data(path=str(picture_folder), resolution=32))[0]


@pytest.fixture(scope="module")
def autoencoder(tiny_model_folder):
    return load_autoencoder(tiny_model_folder)


def shown_pictures(condition, autoencoder, pictures):
    views = LiveLatents(autoencoder, Blurred(pictures, 4)) if condition.kind == "upscale" else None
    return ShownPictures(condition, autoencoder, pictures, seed=3, latents=views)


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (Data(resolution=96), True),
        (Data(resolution=128), False),
        (Data(resolution=96, buckets=3, bucket_multiple=16), False),
        (Data(resolution=96, buckets=3, bucket_multiple=24), True),
    ],
)
def test_sizes_that_cannot_be_shrunk_evenly_are_refused(data, fits):
    config = DiffusionConfig(data, DiffusionModel(image_condition="upscale", upscale_factor=3))
    if fits:
        assert image_condition_of(config) == ImageCondition("upscale", 3)
    else:
        with pytest.raises(ConfigError, match=r"multiples of model\.upscale_factor, 3"):
            image_condition_of(config)


@pytest.mark.parametrize("condition", [INPAINT, UPSCALE])
def test_a_row_is_shown_the_same_whatever_other_rows_are_asked_for(pictures, autoencoder, condition):
    shown, indices = shown_pictures(condition, autoencoder, pictures), [3, 0, 7, 3]
    flipped = torch.tensor([False, True, False, True])
    whole = shown.batch(indices, flipped, 5, range(4))
    parts = [
        shown.batch(indices[first : first + 2], flipped[first : first + 2], 5, range(first, first + 2))
        for first in (0, 2)
    ]
    assert whole.shape == (4, 5, 8, 8)
    torch.testing.assert_close(torch.cat(parts), whole)
    assert torch.equal(shown.batch(indices, flipped, 6, range(4)), whole) == (condition == UPSCALE)


@pytest.mark.parametrize("condition", [INPAINT, UPSCALE])
def test_what_is_shown_is_mirrored_with_its_picture(pictures, autoencoder, condition):
    shown, indices = shown_pictures(condition, autoencoder, pictures), [3, 0]
    pixels = pictures.batch(indices)
    mirrored = torch.stack([pixels[0], pixels[1].flip(2)])
    found = shown.batch(indices, torch.tensor([False, True]), 5, range(2))
    torch.testing.assert_close(found, shown.encode(mirrored, 5, range(2)), atol=1e-5, rtol=1e-5)


def test_a_picture_to_enlarge_is_shown_without_its_details(pictures, autoencoder):
    shown = shown_pictures(UPSCALE, autoencoder, pictures)
    stripes = torch.ones(1, 3, 32, 32)
    stripes[..., ::2] = -1
    seen, mask = shown.views(stripes, 0, range(1))
    assert seen.abs().max() < 0.1
    assert not mask.any()
    torch.testing.assert_close(shown.encode(stripes, 0, range(1)), image_condition(autoencoder, seen, mask))


def test_a_cache_of_blurred_pictures_is_none_of_sharp_ones(pictures):
    digests = {pictures.digest, Blurred(pictures, 2).digest, Blurred(pictures, 4).digest}
    assert len(digests) == 3
    torch.testing.assert_close(Blurred(pictures, 4).batch([2]), blurred(pictures.batch([2]), 4))
