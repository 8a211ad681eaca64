"""What a student loses against its teacher, on the same captions and seeds."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from evaluation.distances import kernel_distance
from evaluation.intervals import jackknife, mean
from evaluation.questions import Question
from evaluation.retrieval import Labels

if TYPE_CHECKING:
    from evaluation.diffusion import Real


def compare(real: "Real", asked: list[Question], teacher: Tensor, student: Tensor) -> dict[str, Any]:
    """The ratio of kernel distances to training pictures, and how much the share found falls.

    `teacher` and `student` are features (R, N, D) of R rounds of the N things asked, with the same seeds. The
    intervals leave out, or count, a caption with all of its rounds.
    """
    train, _ = real.of("train")
    wanted = Labels([one.concept for one in asked], [one.style for one in asked])

    def ratio(some: Tensor) -> float:  # (n, 2, R, D)
        taught, teaching = (kernel_distance(train, some[:, who].flatten(0, 1)) for who in (1, 0))
        return taught / teaching

    def found(drawn: Tensor) -> Tensor:  # (R, N, D)
        return torch.stack([(real.ranks(features, wanted) < 5).float() for features in drawn])

    drop = (found(teacher) - found(student)).mean(0)  # (N,)
    return {
        "pictures": student.shape[:2].numel(),
        **jackknife(ratio, torch.stack([teacher, student]).permute(2, 0, 1, 3)).entry(
            "kernel_distance_ratio"
        ),
        **mean(drop).entry("retrieval_top5_drop"),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """A result for people, in Markdown."""
    low, high = result["kernel_distance_ratio_interval"]
    least, most = result["retrieval_top5_drop_interval"]
    guidance = result["guidance_scale"]
    how = "without guidance" if guidance in (0, 1) else f"with guidance {guidance:g}"
    return [
        f"The student draws in {result['steps']} steps {how}; on the same {result['pictures']} "
        "pictures of training captions, with 95% intervals:",
        "",
        f"- kernel distance: {result['kernel_distance_ratio']:.3f} times its teacher's "
        f"({low:.3f} to {high:.3f})",
        f"- one of five nearest is right: {100 * result['retrieval_top5_drop']:.1f} points less often "
        f"({100 * least:.1f} to {100 * most:.1f})",
    ]
