import pytest
from PIL import Image

from pipelines.compare.axes import Axis
from pipelines.compare.sheet import MAX_SHEET_PIXELS, MISSING, compose

COLOURS = {(x, y, z): (60 * x, 90 * y, 120 * z) for x in range(3) for y in range(2) for z in range(2)}
AXES = [Axis("seed", (1, 2, 3)), Axis("steps", (4, 8)), Axis("guidance_scale", (1.0, 2.5))]


def areas(sheet: Image.Image) -> dict[tuple[int, int, int], tuple[float, float, int]]:
    """Centre and size of what has one colour, by colour."""
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for place, colour in enumerate(sheet.get_flattened_data()):
        found.setdefault(colour, []).append((place % sheet.width, place // sheet.width))
    return {
        colour: (sum(x for x, _ in at) / len(at), sum(y for _, y in at) / len(at), len(at))
        for colour, at in found.items()
    }


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pictures_stand_in_the_order_of_their_axes(dimensions: int) -> None:
    axes = AXES[:dimensions]
    pictures = {
        place[:dimensions]: Image.new("RGB", (96, 128), colour)
        for place, colour in COLOURS.items()
        if not any(place[dimensions:])
    }
    found = areas(compose(pictures, axes, {"seed": "Seed"}))
    at = {place: found[picture.getpixel((0, 0))] for place, picture in pictures.items()}
    assert all(size >= 96 * 128 for _, _, size in at.values())
    for place, (x, y, _) in at.items():
        for axis in range(dimensions):
            following = tuple(index + (number == axis) for number, index in enumerate(place))
            if following in at:
                assert at[following][0] > x if axis == 0 else at[following][1] > y


def test_what_is_not_drawn_yet_is_grey_and_labels_are_written() -> None:
    sheet = compose({(0, 0): Image.new("RGB", (96, 96), "red")}, AXES[:2], {})
    found = areas(sheet)
    grey = tuple(int(MISSING[i : i + 2], 16) for i in (1, 3, 5))
    assert found[255, 0, 0][2] == 96 * 96
    assert found[grey][2] == 5 * 96 * 96
    plain = compose({(0, 0): Image.new("RGB", (96, 96), "red")}, [Axis("seed", (4, 2, 3)), AXES[1]], {})
    assert sheet.size == plain.size
    assert sheet.tobytes() != plain.tobytes()


def test_small_pictures_are_enlarged_by_whole_pixels_and_huge_sheets_are_bounded() -> None:
    small = compose({(0,): Image.new("RGB", (32, 32), "red")}, [Axis("seed", (1,))], {})
    assert areas(small)[255, 0, 0][2] == 96 * 96
    many = Axis("seed", tuple(range(100)))
    wide = compose({(0,): Image.new("RGB", (1024, 1024), "red")}, [many], {})
    assert wide.width <= MAX_SHEET_PIXELS + 100 * 8 + 8


def test_long_labels_are_shortened_and_wrapped() -> None:
    words = Axis("prompt", ("cat", "a very " * 100 + "fluffy cat", "x" * 200))
    sheet = compose({(0,): Image.new("RGB", (96, 96))}, [words], {})
    assert sheet.width == 3 * (96 + 8) + 8
