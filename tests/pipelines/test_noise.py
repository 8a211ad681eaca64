import math

import pytest
import torch

from pipelines.noise import DrawFrom, Noise, philox_randn


@pytest.mark.parametrize(
    ("seed", "shape", "published"),  # AUTOMATIC1111's rng_philox.py, run in float32
    [
        (
            0,
            (3, 4),
            [
                [-0.9246624112129211, -0.42534396052360535, -2.643845796585083, 0.14518387615680695],
                [-0.12086650729179382, -0.5797256827354431, -0.6228513121604919, -0.32838714122772217],
                [-1.0745420455932617, -0.3631440997123718, -1.6710504293441772, 2.265505075454712],
            ],
        ),
        (
            965400086,
            (1, 4),
            [[-0.7764749526977539, -0.6960412263870239, 0.5648114681243896, 0.9756114482879639]],
        ),
    ],
)
def test_philox_gives_the_numbers_of_nvidia(
    seed: int, shape: tuple[int, int], published: list[list[float]]
) -> None:
    # The published run rounds to float32 on the way.
    torch.testing.assert_close(philox_randn(seed, 0, shape), torch.tensor(published), atol=3e-6, rtol=0)


def test_philox_is_normal_and_each_call_is_new() -> None:
    numbers = torch.stack([philox_randn(3, call, (100, 100)) for call in range(4)])
    assert abs(float(numbers.mean())) < 4 / math.sqrt(numbers.numel())
    assert abs(float(numbers.std()) - 1) < 4 / math.sqrt(2 * numbers.numel())
    correlation = torch.corrcoef(numbers.flatten(1)) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.05


@pytest.mark.parametrize("kind", ["cpu", "nv"])
def test_an_image_draws_the_same_numbers_in_any_company(kind: str) -> None:
    together, alone = Noise([5, 6, 7], kind), Noise([6], kind)  # type: ignore[arg-type]
    for _ in range(3):
        numbers = together.draw((2, 3, 3))
        assert numbers.shape == (3, 2, 3, 3)
        assert numbers.dtype == torch.float32
        assert torch.equal(numbers[1:2], alone.draw((2, 3, 3)))


def test_the_first_numbers_of_an_image_are_those_of_torch() -> None:
    expected = torch.randn((2, 3), generator=torch.Generator().manual_seed(9))
    assert torch.equal(Noise([9]).draw((2, 3))[0], expected)


def test_within_the_context_randn_is_ours_and_outside_it_is_not() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with DrawFrom(Noise([1, 2])):
        drawn = torch.randn((2, 3), device="cpu", dtype=torch.float64)
    assert torch.equal(drawn.float(), Noise([1, 2]).draw((3,)))
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(1)
    assert not torch.equal(state, torch.get_rng_state())


def test_a_variation_lies_on_the_circle_between_two_noises() -> None:
    shape = (4, 16, 16)
    first, second = Noise([5]).draw(shape), Noise([9]).draw(shape)
    for strength in (0.0, 0.25, 0.5, 1.0):
        mixed = Noise([5], "cpu", [9], strength).draw(shape)
        angle = torch.nn.functional.cosine_similarity(first, second, dim=-2).acos()
        turned = torch.nn.functional.cosine_similarity(first, mixed, dim=-2).clamp(-1, 1).acos()
        if strength in (0.0, 1.0):
            torch.testing.assert_close(mixed, first if strength == 0 else second)
        assert float(turned.mean() / angle.mean()) == pytest.approx(strength, abs=0.08)
        assert float(mixed.std()) == pytest.approx(1, abs=0.05)


def test_a_variation_mixes_the_picture_and_not_the_numbers_of_later_steps() -> None:
    plain, varied = Noise([5, 5]), Noise([5, 5], "cpu", [9, 10], 0.5)
    assert not torch.equal(plain.draw((4, 8, 8)), varied.draw((4, 8, 8)))
    assert torch.equal(plain.draw((4, 8, 8)), varied.draw((4, 8, 8)))
    assert torch.isfinite(Noise([5], "cpu", [5], 0.3).draw((4, 8, 8))).all()
