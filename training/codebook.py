"""Which codes of a codebook are chosen, and new places for those that are not."""

import torch
from torch import Tensor, nn

from training.distributed import gather_rows, mean_over_ranks
from training.seeds import seed_for


class CodebookUsage(nn.Module):
    """Moves codes that no latent chose for long onto latents of the step (Jukebox, 2005.00341, section 3.1).

    An untrained code counts as idle from the start: what the first batch leaves alone begins on its latents
    and not near zero, where few codes would ever be chosen.
    """

    idle_steps: Tensor

    def __init__(self, codes: int, revive_after_steps: int, trained_before: bool) -> None:
        super().__init__()
        self.revive_after_steps = revive_after_steps
        self.register_buffer("idle_steps", torch.full((codes,), 0 if trained_before else revive_after_steps))
        self.latents: list[Tensor] = []  # of this step so far, (B, C, h, w)
        self.chosen = torch.zeros(codes, dtype=torch.bool)

    @torch.no_grad()
    def observe(self, latents: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Note a batch of latents (B, C, h, w) and their codes' numbers; their use over all ranks."""
        counts = mean_over_ranks(numbers.flatten().bincount(minlength=len(self.idle_steps)).float())  # (K,)
        self.latents.append(latents.detach())
        self.chosen = self.chosen.to(counts.device) | (counts > 0)
        return codebook_measures(counts)

    @torch.no_grad()
    def revive(self, codes: Tensor, seed: int, step: int) -> None:
        """Count the idle steps after optimiser step `step`, and move the dead among the codes (K, C)."""
        self.idle_steps.add_(1).masked_fill_(self.chosen, 0)
        dead = (self.idle_steps >= self.revive_after_steps).nonzero().flatten()
        if self.revive_after_steps and len(dead):
            latents = torch.cat([gather_rows(part) for part in self.latents])  # (B of all ranks, C, h, w)
            candidates = latents.permute(0, 2, 3, 1).flatten(0, 2)  # (N, C)
            generator = torch.Generator().manual_seed(seed_for(seed, step, "revived codes"))
            picked = torch.randint(len(candidates), (len(dead),), generator=generator)
            codes[dead] = candidates[picked.to(candidates.device)]
            self.idle_steps[dead] = 0
        self.latents, self.chosen = [], torch.zeros_like(self.chosen)


def codebook_measures(counts: Tensor) -> dict[str, Tensor]:
    """How codes chosen `counts` (K,) times are used.

    `codebook_usage` is the share of codes chosen at all, `codebook_perplexity` exp of the entropy of the
    choice: as many codes as it would take if all of them were chosen alike.
    """
    shares = counts / counts.sum()
    return {
        "codebook_usage": (counts > 0).float().mean(),
        "codebook_perplexity": torch.special.entr(shares).sum().exp(),
    }
