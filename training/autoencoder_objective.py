"""The loss of stage 1 (Rombach et al. 2022, appendix G)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from models.autoencoder import Autoencoder
from models.discriminator import PatchDiscriminator
from training import losses
from training.codebook import CodebookUsage
from training.config import AutoencoderModel
from training.distributed import mean_over_ranks

MOVES = 6  # what `transform` can do


class AutoencoderParts(nn.Module):
    """What stage 1 trains; only the autoencoder of it is exported."""

    def __init__(self, autoencoder: Autoencoder, config: AutoencoderModel, trained_before: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.logvar = nn.Parameter(torch.zeros(()), requires_grad=config.learn_logvar)
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial_weight:
            self.discriminator = PatchDiscriminator(
                config.discriminator_channels, config.discriminator_layers
            )
        self.codebook_usage: CodebookUsage | None = None
        if autoencoder.regularizer == "vq":
            codes = autoencoder.vae.config.num_vq_embeddings
            self.codebook_usage = CodebookUsage(codes, config.revive_after_steps, trained_before)


class AutoencoderObjective(nn.Module):
    """Encode, decode and the loss of both players in one forward, for one backward and one optimiser."""

    def __init__(
        self, trained: AutoencoderParts, config: AutoencoderModel, features: losses.FeatureMaps | None
    ) -> None:
        super().__init__()
        self.trained, self.config, self.features = trained, config, features

    def forward(
        self, pixels: Tensor, noise: Tensor | None, move: int | None, adversarial: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms of pictures (B, 3, H, W) in [-1, 1].

        `noise` (B, C, h, w) makes a sample of the posterior, with VQ there is none; `move` is the
        number of the transformation that the decoder must follow, None for none; `adversarial` says whether
        the discriminator plays yet.
        """
        trained, config = self.trained, self.config
        autoencoder, terms = trained.autoencoder, dict[str, Tensor]()
        if noise is None:
            latents = autoencoder.raw_latents(pixels).float()  # (B, C, h, w)
        else:
            posterior = autoencoder.posterior(pixels)
            latents = posterior.mean + posterior.std * noise  # (B, C, h, w)
            terms["kl"] = losses.kl(posterior)
            penalty = config.kl_weight * terms["kl"]
        if move is not None:
            latents, pixels = transform(latents, move), transform(pixels, move)
        if trained.codebook_usage is not None:
            codes, numbers = autoencoder.quantize(latents)  # (B, C, h, w), (B, h, w)
            terms["codebook"] = losses.codebook(latents, codes, config.commitment)
            penalty = config.codebook_weight * terms["codebook"]
            terms |= trained.codebook_usage.observe(latents, numbers)
            latents = latents + (codes - latents).detach()  # codes, whose gradient goes to the encoder
        output = autoencoder.reconstruct(latents).float()  # (B, 3, H, W)

        distance = terms["reconstruction"] = losses.reconstruction(output, pixels)
        if config.gradient_weight:
            terms["gradient"] = losses.gradient(output, pixels)
            distance = distance + config.gradient_weight * terms["gradient"]
        if self.features is not None:
            terms["perceptual"] = losses.perceptual(self.features, output, pixels)
            distance = distance + config.perceptual_weight * terms["perceptual"]
        nll = losses.nll(distance, trained.logvar)
        loss = nll + penalty
        if config.learn_logvar:
            terms["logvar"] = trained.logvar
        if trained.discriminator is not None:
            if adversarial:
                both, played = self.adversarial(trained.discriminator, output, pixels, nll)
                loss, terms = loss + both, terms | played
            else:  # DDP waits for a gradient of every parameter
                loss = loss + 0 * torch.stack([p.sum() for p in trained.discriminator.parameters()]).sum()
        return loss, terms

    def adversarial(
        self, discriminator: PatchDiscriminator, output: Tensor, pixels: Tensor, nll: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both players' losses; neither gives a gradient to the other's weights."""
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        generator = losses.generator(functional_call(discriminator, frozen, (output,)).float())
        last = self.trained.autoencoder.vae.decoder.conv_out.weight
        of_nll, of_generator = (
            mean_over_ranks(torch.autograd.grad(term, last, retain_graph=True)[0])
            for term in (nll, generator)
        )
        weight = losses.adaptive_weight(of_nll, of_generator)
        real, fake = discriminator(pixels).float(), discriminator(output.detach()).float()  # (B, 1, h', w')
        judgement = losses.discriminator(real, fake)
        terms = {"generator": generator, "discriminator": judgement, "adaptive_weight": weight}
        return self.config.adversarial_weight * weight * generator + judgement, terms


def transform(x: Tensor, move: int) -> Tensor:
    """One quarter turn (0, 1, 2) or a halving of (B, C, H, W), on pixels and latents alike (EQ-VAE)."""
    return torch.rot90(x, move + 1, (2, 3)) if move < 3 else F.avg_pool2d(x, 2)
