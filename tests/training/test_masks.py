import torch
from hypothesis import given
from hypothesis import strategies as st

from training.masks import MAX_SHARE, MIN_SHARE, WHOLE, random_mask


@given(st.integers(16, 96), st.integers(16, 96), st.integers(0, 2**63 - 1))
def test_a_mask_covers_a_share_between_the_bounds_or_everything(height: int, width: int, seed: int) -> None:
    mask = random_mask(height, width, seed)
    assert mask.shape == (1, height, width)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert mask.mean() == 1 or MIN_SHARE <= mask.mean() <= MAX_SHARE
    assert torch.equal(mask, random_mask(height, width, seed))


def test_masks_differ_and_reach_every_pixel() -> None:
    masks = torch.stack([random_mask(32, 48, seed) for seed in range(600)])
    whole = masks.flatten(1).all(1)
    assert 0.5 * WHOLE < whole.float().mean() < 1.5 * WHOLE
    others = masks[~whole]
    assert len({mask.numpy().tobytes() for mask in others}) == len(others)
    covered = others.mean(0)
    assert covered.min() > 0.05
    assert covered.max() < 0.6
