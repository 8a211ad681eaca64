import io

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import DataError
from pipelines.pictures import open_picture
from tests.training.training_data import picture
from training.data.images import to_tensor

ORIENTATION = 0x0112


def saved(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    picture(tmp_path / "bomb.png", size=(9000, 9000), mode="1", colour=0)
    with pytest.raises(DataError, match="too many"):
        open_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize(("background", "expected"), [((255, 255, 255), 255), ((0, 0, 0), 0)])
def test_transparency_is_laid_on_the_colour_asked_for(background, expected):
    clear = Image.new("RGBA", (16, 16), (90, 90, 90, 0))
    palette = clear.quantize(4)
    grey = Image.new("LA", (16, 16), (90, 0))
    keyed = Image.new("RGB", (16, 16), (1, 2, 3))
    files = [saved(clear), saved(clear, "WEBP", lossless=True), saved(palette), saved(grey)]
    files += [saved(clear, "GIF"), saved(keyed, transparency=(1, 2, 3))]
    for file in files:
        assert open_picture(file, background).getcolors() == [(256, (expected,) * 3)]


def test_half_transparency_is_mixed():
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 51))
    assert open_picture(saved(half), (0, 0, 255)).getpixel((0, 0)) == (51, 0, 204)


def test_every_exif_orientation_stands_upright():
    upright = Image.new("RGB", (32, 16), "black")
    upright.paste("white", (0, 0, 16, 8))
    # What a camera stores for each orientation is the upright picture with the inverse operation.
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = saved(upright.transpose(turn), exif=exif)
        assert open_picture(stored).tobytes() == upright.tobytes(), orientation


def test_sixteen_bits_of_grey_keep_their_shades():
    shades = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    read = np.asarray(open_picture(saved(Image.fromarray(shades))))[..., 0]
    assert np.abs(read.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_cmyk_and_palettes_become_the_colours_they_stand_for():
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    for file in (saved(red.convert("CMYK"), "JPEG", quality=100), saved(red.quantize(2)), saved(red, "BMP")):
        assert np.abs(np.asarray(open_picture(file)).astype(int) - (255, 0, 0)).max() <= 3


def test_of_an_animation_the_first_frame_is_used():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "lime")]
    for form, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        file = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert open_picture(file).getpixel((5, 5)) == (255, 0, 0)


def test_values_reach_from_minus_one_to_one_and_the_centre_is_kept():
    image = Image.new("RGB", (96, 32), "black")
    image.paste("white", (32, 0, 64, 32))
    assert torch.equal(to_tensor(image, (32, 32)), torch.ones(3, 32, 32))
    assert torch.equal(to_tensor(image.crop((0, 0, 32, 32)), (16, 16)), -torch.ones(3, 16, 16))
    assert to_tensor(image, (64, 32)).shape == (3, 32, 64)
