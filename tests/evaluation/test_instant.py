import pytest
import torch

from evaluation.diffusion import Real
from evaluation.distances import kernel_distance
from evaluation.instant import compare, lines
from evaluation.questions import Question
from evaluation.starter_data import Thing

CONCEPTS = [str(number) for number in range(12)]
REAL = Real(
    [Thing(None, name, name, "x", "train") for name in CONCEPTS],  # type: ignore[arg-type]
    torch.eye(12),
)
ASKED = [Question("", name, "y") for name in CONCEPTS]


def drawn(seed: int, rounds: int = 2, spread: float = 0.05) -> torch.Tensor:
    """Pictures of what was asked, (R, N, D)."""
    return torch.eye(12) + spread * torch.randn(rounds, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_who_draws_as_the_teacher_does_loses_nothing() -> None:
    result = compare(REAL, ASKED, drawn(0), drawn(0))
    assert result["kernel_distance_ratio"] == 1
    assert result["kernel_distance_ratio_interval"] == pytest.approx([1, 1])
    assert (result["retrieval_top5_drop"], result["retrieval_top5_drop_interval"]) == (0, [0, 0])
    assert result["pictures"] == 24


def test_the_drop_is_a_share_of_captions_and_the_ratio_that_of_the_distances() -> None:
    teacher, student = drawn(0), drawn(1, spread=0.1)
    student[:, :3] = -3 * torch.eye(12)[:3]  # of three things in twelve nothing is right any more
    result = compare(REAL, ASKED, teacher, student)
    assert result["retrieval_top5_drop"] == 0.25
    low, high = result["retrieval_top5_drop_interval"]
    assert low < 0.25 < high
    far, near = (
        kernel_distance(REAL.features, one.transpose(0, 1).flatten(0, 1)) for one in (student, teacher)
    )
    assert result["kernel_distance_ratio"] == pytest.approx(far / near, abs=1e-4)
    told = "\n".join(lines({"steps": 4, "guidance_scale": 1.0, **result}))
    assert "in 4 steps without guidance" in told
    assert "in 4 steps with guidance 1.2" in "\n".join(lines({"steps": 4, "guidance_scale": 1.2, **result}))
    assert "25.0 points less often" in told
