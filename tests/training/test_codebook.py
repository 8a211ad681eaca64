import pytest
import torch

from training.codebook import CodebookUsage, codebook_measures


def observe(usage: CodebookUsage, numbers: list[int], value: float) -> None:
    """A step in which latents of one value chose these codes."""
    usage.observe(torch.full((1, 2, 1, len(numbers)), value), torch.tensor([[numbers]]))


def test_a_code_that_is_idle_too_long_moves_onto_a_latent_of_the_step():
    usage = CodebookUsage(4, revive_after_steps=3, trained_before=True)
    codes = torch.arange(8.0).view(4, 2)
    before = codes.clone()
    for step in range(2):
        observe(usage, [0, 1], value=50.0)
        usage.revive(codes, seed=0, step=step)
    assert torch.equal(codes, before)
    assert usage.idle_steps.tolist() == [0, 0, 2, 2]
    observe(usage, [0, 2], value=100.0)
    usage.revive(codes, seed=0, step=2)
    assert usage.idle_steps.tolist() == [0, 1, 0, 0]
    assert torch.equal(codes[:3], before[:3])
    assert codes[3].tolist() == [100, 100]


def test_what_takes_a_dead_codes_place_is_decided_by_seed_and_step():
    latents = torch.randn(3, 2, 4, 4)

    def revived(seed: int, step: int) -> torch.Tensor:
        usage, codes = CodebookUsage(16, 1, trained_before=True), torch.zeros(16, 2)
        # Halves of a batch, as two micro-batches see it, are one batch.
        for part in latents.split(1):
            usage.observe(part, torch.zeros(1, 4, 4, dtype=torch.long))
        usage.revive(codes, seed, step)
        assert not codes[0].any()
        return codes[1:]

    first = revived(1, 2)
    assert torch.equal(first, revived(1, 2))
    assert not torch.equal(first, revived(1, 3))
    assert not torch.equal(first, revived(2, 2))
    rows = latents.movedim(1, -1).flatten(0, 2)
    assert all((rows == code).all(1).any() for code in first)
    assert len(first.unique(dim=0)) > 5


def test_the_first_batch_places_the_codes_of_an_untrained_codebook():
    usage, codes = CodebookUsage(4, 100, trained_before=False), torch.zeros(4, 2)
    observe(usage, [1], value=5.0)
    usage.revive(codes, seed=0, step=0)
    assert codes.tolist() == [[5, 5], [0, 0], [5, 5], [5, 5]]


def test_zero_steps_revive_nothing():
    usage, codes = CodebookUsage(4, 0, trained_before=False), torch.zeros(4, 2)
    observe(usage, [1], value=5.0)
    usage.revive(codes, seed=0, step=0)
    assert not codes.any()


def test_the_count_is_kept_with_the_weights():
    assert list(CodebookUsage(4, 3, trained_before=False).state_dict()) == ["idle_steps"]


def test_use_is_a_share_and_perplexity_a_number_of_codes():
    alike = codebook_measures(torch.tensor([3, 3, 3, 0]))
    assert alike["codebook_usage"] == 0.75
    assert alike["codebook_perplexity"] == pytest.approx(3)
    one = codebook_measures(torch.tensor([0, 9, 0, 0]))
    assert one["codebook_usage"] == 0.25
    assert one["codebook_perplexity"] == pytest.approx(1)
