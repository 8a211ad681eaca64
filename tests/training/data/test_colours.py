import pytest
from PIL import Image

from training.data.colours import BACKGROUNDS, SHADES, dominant


@pytest.mark.parametrize("name", [*BACKGROUNDS, "white"])
def test_every_shade_has_the_name_it_stands_under(name):
    for shade in (*SHADES[name], *([BACKGROUNDS[name]] if name in BACKGROUNDS else [])):
        assert dominant(Image.new("RGBA", (8, 8), (*shade, 255))) == [name]


def test_the_larger_colour_comes_first_a_speck_and_what_is_transparent_are_not_named():
    icon = Image.new("RGBA", (40, 40), (0, 0, 255, 0))
    icon.paste((214, 69, 65, 255), (0, 0, 40, 20))
    icon.paste((88, 175, 96, 255), (0, 20, 40, 30))
    icon.paste((26, 26, 30, 255), (0, 30, 40, 32))
    assert dominant(icon) == ["red", "green"]


def test_an_empty_picture_has_no_colour():
    assert dominant(Image.new("RGBA", (4, 4))) == []
