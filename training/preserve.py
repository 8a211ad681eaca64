"""Learning a thing without forgetting others: to other words the adapted network answers as it did before.

As the prior preservation of Ruiz et al. 2022 (2208.12242, section 3.3): pictures that the frozen network drew
of other things, with its own answer to them as the target.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.class_encoder import ConditionEncoder
from models.denoiser import Denoiser, UNetRunner
from models.text_encoder import TextStates
from pipelines.noise import Noise
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.sampling import sample_latents
from training.data.captions import OTHER_WORDS, with_article
from training.data.emoji import STYLES
from training.lora import Adapters
from training.objectives import Objective
from training.seeds import uniform

NOTHING_SHARE = 0.2  # of the rows that are preserved: the empty prompt, which guidance leads away from
PICTURES, STEPS, BATCH = 32, 8, 8  # drawn before the first step
NOISY = 800.0  # a timestep above which a picture can hardly be seen, so that any words may be said of it


class KeptThings:
    """Ordinary things as the model draws them: what it is not to forget while it is `taught` others.

    They take a `share` of each batch, by `seed`.
    """

    def __init__(self, encoder: ConditionEncoder, taught: Sequence[str], share: float, seed: int) -> None:
        said = " ".join(taught).lower()
        names = [name for name in OTHER_WORDS if name.lower() not in said]
        styles = [package.style for package in STYLES]
        # In the manner of the starter's captions.
        self.captions = [
            f"{name}, {styles[number // 2 % len(styles)]} style" if number % 2 else with_article(name)
            for number, name in enumerate(names)
        ]
        self.drawn = self.captions[:: -(-len(self.captions) // PICTURES)]
        self.encoder, self.share, self.seed = encoder, share, seed
        self.latents: Tensor | None = None

    def draw(self, denoiser: Denoiser, shape: tuple[int, int, int], guidance_scale: float) -> None:
        """Have the model draw some, (N, C, h, w); it must be as it was before it learned anything."""
        device = next(denoiser.unet.parameters()).device
        nothing, parts = self.encoder.encode([""]).to(device), []
        for first in range(0, len(self.drawn), BATCH):
            captions = self.drawn[first : first + BATCH]
            sampling = sample_latents(
                denoiser,
                make_scheduler(SAMPLERS["DPM++ 2M"], "Automatic", denoiser, STEPS),
                Noise(range(first, first + len(captions))),
                shape,
                self.encoder.encode(captions).to(device),
                nothing,
                guidance_scale,
            )
            while True:
                try:
                    next(sampling)
                except StopIteration as end:
                    parts.append(end.value.cpu())
                    break
        self.latents = torch.cat(parts).clone()  # so that it may take part in training

    def put_among(
        self, latents: Tensor, states: TextStates, timestep: Tensor, step: int, positions: range
    ) -> tuple[Tensor, TextStates, Tensor]:
        """A batch with these in some rows, and which rows they are, (B,) bool.

        Rows are chosen by their places in the global batch, so that every process has its share of them.
        """
        places = torch.tensor(positions)
        kept = (places + 1) * self.share // 1 > places * self.share // 1  # (B,)
        choices, words = (uniform(self.seed, step, positions, name) for name in ("kept", "kept words"))
        others, theirs = self.rows(choices, words, timestep)
        latents = torch.where(kept[:, None, None, None], others, latents)  # (B, C, h, w)
        which = [len(kept) + row if other else row for row, other in enumerate(kept.tolist())]
        return latents, TextStates.cat([states, theirs.to(states.device)]).select(which), kept

    def rows(self, choices: Tensor, words: Tensor, timestep: Tensor) -> tuple[Tensor, TextStates]:
        """Latents and what is said of them, by numbers in [0, 1) and timesteps, all (B,)."""
        assert self.latents is not None
        places = (choices * len(self.latents)).long()
        said = []
        for place, word, t in zip(places.tolist(), words.tolist(), timestep.tolist(), strict=True):
            if word < NOTHING_SHARE:
                said.append("")
            elif t > NOISY:
                share = (word - NOTHING_SHARE) / (1 - NOTHING_SHARE)
                said.append(self.captions[int(share * len(self.captions))])
            else:
                said.append(self.drawn[place])
        return self.latents[places], self.encoder.encode(said)


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
        z_t = objective.noised(latents, noise, timestep)  # (B, C, h, w)
        if shown is not None:
            z_t = torch.cat([z_t, shown], dim=1)  # (B, C + 1 + C, h, w)
        target = objective.target(latents, noise, timestep)  # (B, C, h, w)
        rows = kept.nonzero().flatten()
        if len(rows):
            with torch.no_grad(), self.without():
                before = UNetRunner(objective.unet)(z_t[rows], timestep[rows], states.select(rows.tolist()))
            target = target.index_copy(0, rows, before.to(target.dtype))
        output = UNetRunner(objective.unet)(z_t, timestep, states)  # (B, C, h, w)
        errors = (output - target).square().flatten(1).mean(1)  # (B,)
        loss = (objective.weight(timestep) * errors).mean()
        return loss, {
            "taught_loss": errors[~kept].mean().detach(),
            "preserved_loss": errors[kept].mean().detach() if len(rows) else errors.new_zeros(()),
        }
