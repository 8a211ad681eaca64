import torch

from evaluation.teach import NEAREST, Gallery, summary


def one_hot(*places, size=12):
    return torch.eye(size)[list(places)]


def test_a_copy_of_a_taught_picture_does_not_find_itself() -> None:
    others = one_hot(*range(NEAREST + 1))
    # A copy of a taught picture unlike all others of the concept, and nearer to six of other concepts.
    copy = one_hot(8) + 0.1 * one_hot(*range(NEAREST + 1)).sum(0)
    gallery = Gallery(others, one_hot(8, 9), one_hot(10))
    assert not gallery.found(copy)["another"].item()
    assert not gallery.found(copy)["untaught"].item()


def test_another_taught_picture_counts_and_by_the_stricter_rule_only_an_untaught_one() -> None:
    others = 0.5 * one_hot(*range(NEAREST + 1)) + 0.5 * one_hot(11)
    gallery = Gallery(others, one_hot(8, 9), one_hot(10))
    like_both = one_hot(8) + 0.9 * one_hot(9) + 0.1 * one_hot(11)
    assert gallery.found(like_both)["another"].item()
    assert not gallery.found(like_both)["untaught"].item()
    like_untaught = one_hot(8) + 0.9 * one_hot(10)
    assert gallery.found(like_untaught)["another"].item()
    assert gallery.found(like_untaught)["untaught"].item()


def test_what_others_lose_is_in_points_and_paired_by_caption() -> None:
    row = {key: [1, 0] for key in ("another", "untaught", "real_another", "real_untaught")} | {
        "others_before": [1, 1, 0, 0],
        "others_after": [1, 0, 0, 0],
    }
    found = summary([row, row])
    assert found["another"] == 0.5
    assert found["points_lost_by_others"] == 25.0
    low, high = found["points_lost_by_others_interval"]
    assert low < 25 < high
