"""Learning a thing without forgetting others: to other words the adapted network answers as it did before.

As the prior preservation of Ruiz et al. 2022 (2208.12242, section 3.3), but nothing is drawn first: in some
rows the latents are what the frozen network sees in their noise at two glances, and the target is its answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.class_encoder import ConditionEncoder
from models.denoiser import UNetRunner
from models.text_encoder import TextStates
from training.data.captions import OTHER_WORDS, with_article
from training.data.emoji import STYLES
from training.lora import Adapters
from training.objectives import Objective

GLANCES = (999.0, 700.0)  # the timesteps at which it looks
NOTHING_SHARE = 0.2  # of the rows that are preserved: the empty prompt, which guidance leads away from


class KeptWords:
    """Captions of ordinary things, in the manner of the starter's: what a taught model is not to forget."""

    def __init__(self, encoder: ConditionEncoder, taught: Sequence[str]) -> None:
        said = " ".join(taught).lower()
        names = [name for name in OTHER_WORDS if name.lower() not in said]
        styles = [package.style for package in STYLES]
        self.captions = [
            f"{name}, {styles[number // 2 % len(styles)]} style" if number % 2 else with_article(name)
            for number, name in enumerate(names)
        ]
        self.encoder = encoder

    def states(self, choices: Tensor) -> TextStates:
        """States of captions by numbers in [0, 1), (B,), some of them of the empty one."""
        places = ((choices - NOTHING_SHARE) / (1 - NOTHING_SHARE) * len(self.captions)).floor().tolist()
        return self.encoder.encode([self.captions[int(place)] if place >= 0 else "" for place in places])


class Preserving(nn.Module):
    """An objective whose target, in some rows, is what the network answers without its adapters."""

    def __init__(self, objective: Objective, adapters: Adapters) -> None:
        super().__init__()
        self.objective = objective
        self.without = adapters.switched_off

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep: Tensor,
        states: TextStates,
        shown: Tensor | None,
        kept: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted mean loss; rows that are `kept` (B,) preserve, the others learn."""
        objective = self.objective
        rows = kept.nonzero().flatten()
        if len(rows):
            words = states.select(rows.tolist())
            others = self.seen_in(noise[rows], words, None if shown is None else shown[rows])
            latents = latents.index_copy(0, rows, others)
        z_t = objective.noised(latents, noise, timestep)  # (B, C, h, w)
        if shown is not None:
            z_t = torch.cat([z_t, shown], dim=1)  # (B, C + 1 + C, h, w)
        target = objective.target(latents, noise, timestep)  # (B, C, h, w)
        if len(rows):
            with torch.no_grad(), self.without():
                before = UNetRunner(objective.unet)(z_t[rows], timestep[rows], words)
            target = target.index_copy(0, rows, before.to(target.dtype))
        output = UNetRunner(objective.unet)(z_t, timestep, states)  # (B, C, h, w)
        errors = (output - target).square().flatten(1).mean(1)  # (B,)
        loss = (objective.weight(timestep) * errors).mean()
        return loss, {
            "taught_loss": errors[~kept].mean().detach(),
            "preserved_loss": errors[kept].mean().detach() if len(rows) else errors.new_zeros(()),
        }

    @torch.no_grad()
    def seen_in(self, noise: Tensor, states: TextStates, shown: Tensor | None) -> Tensor:
        """Latents (B, C, h, w) of what words say, as the network without adapters sees them in noise."""
        objective, latents = self.objective, noise
        with self.without():
            for t in GLANCES:
                timestep = noise.new_full((len(noise),), t)
                z_t = noise if t == GLANCES[0] else objective.noised(latents, noise, timestep)
                given = z_t if shown is None else torch.cat([z_t, shown], dim=1)
                output = UNetRunner(objective.unet)(given, timestep, states)
                latents = objective.denoised(z_t, output.to(z_t.dtype), timestep)
        return latents
