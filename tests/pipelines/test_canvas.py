from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import RequestError
from pipelines.canvas import open_canvas
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.request_parts import ImageInput

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> InputStore:
    return InputStore(tmp_path_factory.mktemp("inputs"))


def noise(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    random = np.random.default_rng(width * height)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def boxed(
    left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, (left, top, right, bottom))
    return mask


def an_image(store: InputStore, mask: Image.Image | None = None, **fields: Any) -> ImageInput:
    named = None if mask is None else store.add(read_mask(mask))
    return ImageInput(picture=store.add(read_picture(noise())), mask=named, **fields)


def values(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image).astype(int)


def ends(side: int) -> st.SearchStrategy[list[int]]:
    """Where something begins and ends along a side."""
    return st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True).map(sorted)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    box=st.tuples(ends(WIDTH), ends(HEIGHT)).map(lambda sides: (*map(min, sides), *map(max, sides))),
    blur=st.integers(0, 12),
    only_masked=st.booleans(),
    padding=st.integers(0, 40),
    fill=st.sampled_from(["original", "fill"]),
    size=st.sampled_from([(64, 48), (32, 32), (96, 40)]),
)
def test_outside_the_mask_the_picture_stays_to_the_bit(
    store: InputStore,
    box: tuple[int, int, int, int],
    blur: int,
    only_masked: bool,
    padding: int,
    fill: Any,
    size: tuple[int, int],
) -> None:
    mask = boxed(*box)
    image = an_image(store, mask, mask_blur=blur, only_masked=only_masked, mask_padding=padding, fill=fill)
    if not only_masked:
        size = (WIDTH, HEIGHT)
    canvas = open_canvas(image, *size, store)
    assert canvas.pixels.shape == (1, 3, size[1], size[0])
    assert canvas.mask is not None
    assert set(canvas.mask.unique().tolist()) <= {0.0, 1.0}
    drawn = canvas.paste(Image.new("RGB", size, (255, 0, 255)))
    assert drawn.size == (WIDTH, HEIGHT)
    outside = values(mask) == 0
    assert (values(drawn)[outside] == values(noise())[outside]).all()
    deep = np.zeros_like(outside)
    deep[box[1] + blur : max(0, box[3] - blur), box[0] + blur : max(0, box[2] - blur)] = True
    assert (values(drawn)[deep] == (255, 0, 255)).all()
    if not blur:
        assert (values(drawn)[~outside] == (255, 0, 255)).all()


def test_the_soft_edge_rises_from_the_mask_inwards(store: InputStore) -> None:
    canvas = open_canvas(an_image(store, boxed(16, 0, 64, 48), mask_blur=7), WIDTH, HEIGHT, store)
    assert canvas.edge is not None
    assert values(canvas.edge)[24, 14:26].tolist() == [0, 0, 32, 64, 96, 128, 159, 191, 223, 255, 255, 255]


def test_only_the_masked_part_is_drawn_larger(store: InputStore) -> None:
    image = an_image(store, boxed(20, 20, 30, 24), only_masked=True, mask_padding=4)
    canvas = open_canvas(image, 96, 96, store)
    assert canvas.box == (16, 13, 34, 31)  # 18 x 12 with its padding, made square
    seen = noise().crop(canvas.box).resize((96, 96), Image.Resampling.LANCZOS)
    assert (((canvas.pixels[0].permute(1, 2, 0).numpy() + 1) * 127.5).round() == values(seen)).all()


def test_a_hole_is_filled_with_what_surrounds_it(store: InputStore) -> None:
    red = Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10))
    red.paste((0, 0, 255), (20, 10, 40, 30))
    image = ImageInput(
        picture=store.add(read_picture(red)), mask=store.add(read_mask(boxed(20, 10, 40, 30))), fill="fill"
    )
    filled = (open_canvas(image, WIDTH, HEIGHT, store).pixels + 1) * 127.5
    assert abs(filled - filled.new_tensor([200, 10, 10])[:, None, None]).max() < 1.5


def test_more_room_is_painted_and_the_rest_stays(store: InputStore) -> None:
    canvas = open_canvas(an_image(store, extend=(0, 8, 32, 0), mask_blur=0), 96, 56, store)
    assert canvas.mask is not None
    assert canvas.mask[0, 0, 8:, :64].sum() == 0
    assert canvas.mask[0, 0, :8].all()
    assert canvas.mask[0, 0, :, 64:].all()
    drawn = values(canvas.paste(Image.new("RGB", (96, 56), (255, 0, 255))))
    assert (drawn[8:, :64] == values(noise())).all()
    assert (drawn[:8] == (255, 0, 255)).all()
    # The new room begins with the colours at the edge, not with black.
    assert abs(float(canvas.pixels[0, :, 8:, 64:].mean()) - float(canvas.pixels[0, :, 8:, :64].mean())) < 0.2


def test_a_whole_picture_is_cropped_to_the_shape_that_is_drawn(store: InputStore) -> None:
    canvas = open_canvas(an_image(store), 48, 48, store)
    assert canvas.mask is None
    assert (
        ((canvas.pixels[0].permute(1, 2, 0).numpy() + 1) * 127.5).round() == values(noise())[:, 8:56]
    ).all()


def test_a_mask_without_white_is_refused(store: InputStore) -> None:
    with pytest.raises(RequestError, match="mask is empty"):
        open_canvas(an_image(store, Image.new("L", (WIDTH, HEIGHT), 100)), WIDTH, HEIGHT, store)


def test_a_mask_of_another_size_is_laid_over_the_picture(store: InputStore, tmp_path: Path) -> None:
    half = boxed(0, 0, 64, 96, size=(128, 96))
    canvas = open_canvas(an_image(store, half), WIDTH, HEIGHT, store)
    assert canvas.mask is not None
    assert canvas.mask[..., :32].all()
    assert not canvas.mask[..., 32:].any()
