import pytest
import torch

from models.autoencoder import build_autoencoder
from models.features import load_feature_network
from training import losses
from training.autoencoder import AutoencoderStage
from training.autoencoder_objective import AutoencoderObjective, AutoencoderParts, transform
from training.config import AutoencoderConfig, AutoencoderModel, load_config
from training.distributed import connect
from training.loop import Trainer

GAN = {"adversarial_weight": 0.5, "discriminator_channels": 16, "discriminator_layers": 2}


def objective(regularizer="kl", features=None, **options):
    torch.manual_seed(0)
    config = AutoencoderModel(preset="tiny", regularizer=regularizer, **options)
    parts = AutoencoderParts(build_autoencoder("tiny", regularizer), config, trained_before=False)
    if regularizer == "vq":  # codes as far apart as the latents
        torch.nn.init.normal_(parts.autoencoder.vae.quantize.embedding.weight, std=0.3)
    return AutoencoderObjective(parts, config, features)


def batch(regularizer="kl"):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    return pixels, noise if regularizer == "kl" else None


def norm(value, parameter):
    return torch.autograd.grad(value, parameter, retain_graph=True)[0].norm()


def test_the_kl_loss_is_that_of_the_papers_code_divided_by_the_pixel_elements():
    """LPIPSWithDiscriminator of contperceptual.py: sums over elements, divided by the batch."""
    pixels, noise = batch()
    pixel_elements, latent_elements = 3 * 32 * 32, 4 * 8 * 8
    ours = objective(kl_weight=1e-6 * latent_elements / pixel_elements, gradient_weight=0.0, **GAN)
    ours.trained.logvar.data.fill_(-0.3)
    loss, terms = ours(pixels, noise, None, True)

    autoencoder, judge = ours.trained.autoencoder, ours.trained.discriminator
    posterior = autoencoder.posterior(pixels)
    output = autoencoder.reconstruct(posterior.mean + posterior.std * noise)
    nll = (torch.abs(pixels - output) / torch.exp(torch.tensor(-0.3)) - 0.3).sum() / len(pixels)
    divergence = posterior.kl().sum() / len(pixels)
    generator = -judge(output).mean()
    last = autoencoder.vae.decoder.conv_out.weight
    weight = 0.5 * (norm(nll, last) / (norm(generator, last) + 1e-4)).clamp(0, 1e4)
    theirs = nll + 1e-6 * divergence + weight * generator
    hinge = 0.5 * ((1 - judge(pixels)).relu().mean() + (1 + judge(output)).relu().mean())
    ours_summed = (loss - terms["discriminator"]) * pixel_elements
    torch.testing.assert_close(ours_summed, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(terms["discriminator"], hinge, rtol=1e-6, atol=0)
    torch.testing.assert_close(0.5 * terms["adaptive_weight"], weight / pixel_elements, rtol=1e-6, atol=0)
    assert 0 < terms["adaptive_weight"] < 10  # not at its bound


def test_the_vq_loss_is_that_of_the_papers_code_with_beta_in_its_place():
    """VQLPIPSWithDiscriminator of vqperceptual.py: means over elements."""
    pixels, _ = batch()
    ours = objective("vq", gradient_weight=0.0, codebook_weight=0.7, **GAN)
    loss, terms = ours(pixels, None, None, True)

    autoencoder, judge = ours.trained.autoencoder, ours.trained.discriminator
    latents = autoencoder.raw_latents(pixels)
    flat = latents.movedim(1, -1)
    codebook = autoencoder.vae.quantize.embedding.weight
    numbers = torch.cdist(flat.flatten(0, 2), codebook).argmin(1)
    codes = codebook[numbers].view(flat.shape).movedim(-1, 1)
    distance = (codes - latents).square().mean()
    output = autoencoder.reconstruct(latents + (codes - latents).detach())
    nll, generator = (pixels - output).abs().mean(), -judge(output).mean()
    last = autoencoder.vae.decoder.conv_out.weight
    weight = 0.5 * norm(nll, last) / (norm(generator, last) + 1e-4)
    theirs = nll + 0.7 * (distance + 0.25 * distance) + weight * generator
    torch.testing.assert_close(loss - terms["discriminator"], theirs, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(terms["codebook"], codebook)
    assert gradient[numbers.unique()].abs().sum(1).all()  # every chosen code is drawn to its latents


@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_perceptual_and_adversarial_terms_reach_the_encoder_and_the_players_leave_each_other_alone(
    regularizer,
):
    ours = objective(regularizer, load_feature_network(), perceptual_weight=0.5, **GAN)
    ours.trained.discriminator[-1].bias.data.fill_(1.5)  # inside the hinge's margin its gradient is zero
    _, terms = ours(*batch(regularizer), None, True)
    first = ours.trained.autoencoder.vae.encoder.conv_in.weight
    judge = list(ours.trained.discriminator.parameters())
    for name in ("reconstruction", "gradient", "perceptual", "generator"):
        (gradient,) = torch.autograd.grad(terms[name], first, retain_graph=True)
        assert gradient.abs().sum() > 0, name
    assert torch.autograd.grad(terms["generator"], judge, retain_graph=True, allow_unused=True) == (
        (None,) * len(judge)
    )
    assert torch.autograd.grad(terms["discriminator"], first, retain_graph=True, allow_unused=True) == (None,)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(terms["discriminator"], judge))


def test_before_its_start_the_discriminator_costs_nothing_and_does_not_move():
    ours = objective(**GAN)
    calls = []
    ours.trained.discriminator.register_forward_hook(lambda *_: calls.append(1))
    loss, terms = ours(*batch(), None, False)
    loss.backward()
    assert not calls
    assert {"generator", "discriminator", "adaptive_weight"}.isdisjoint(terms)
    # A gradient, for DDP, but of nothing.
    assert all(p.grad is not None and not p.grad.any() for p in ours.trained.discriminator.parameters())
    without, _ = objective()(*batch(), None, False)
    assert torch.equal(loss, without)


@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_every_parameter_is_trained_after_two_steps_and_logvar_moves(regularizer, picture_folder):
    words = {
        "data.path": picture_folder, "training.batch_size": 4, "training.steps": 2,
        "autoencoder.regularizer": regularizer, "autoencoder.kl_weight": 0.1,
        "autoencoder.perceptual_weight": 0.1, "autoencoder.learn_logvar": "true",
        "autoencoder.revive_after_steps": 1,
    } | {f"autoencoder.{key}": value for key, value in GAN.items()}  # fmt: skip
    config = load_config(AutoencoderConfig, "tiny-autoencoder", [f"{k}={v}" for k, v in words.items()])
    stage = AutoencoderStage(config)
    # Inside the hinge's margin a shift of all logits cancels.
    stage.trained.discriminator[-1].bias.data.fill_(1.5)
    trainer = Trainer(stage, config, connect(config.training))
    metrics = [trainer.step(step) for step in range(2)]
    state = trainer.optimizer.state
    untouched = [
        name
        for name, p in stage.trained.named_parameters()
        if p not in state or not state[p]["exp_avg"].any()
    ]
    assert untouched == []
    assert metrics[0]["logvar"] == 0
    assert metrics[1]["logvar"] != 0
    groups = trainer.optimizer.param_groups
    assert [group["betas"] for group in groups] == [config.optimizer.betas, (0.5, 0.9)]
    assert sum(len(group["params"]) for group in groups) == len(list(stage.trained.parameters()))


def test_a_frozen_logvar_leaves_the_distance_alone():
    ours = objective(learn_logvar=False, kl_weight=0.0, gradient_weight=0.5)
    loss, terms = ours(*batch(), None, False)
    assert not ours.trained.logvar.requires_grad
    assert "logvar" not in terms
    assert torch.equal(loss, terms["reconstruction"] + 0.5 * terms["gradient"])


def test_equivariance_moves_latents_and_pixels_alike():
    pixels = torch.rand(1, 3, 16, 16)
    latents = torch.nn.functional.avg_pool2d(pixels, 4)
    for move in range(6):
        z, x = transform(latents, move), transform(pixels, move)
        assert torch.allclose(torch.nn.functional.avg_pool2d(x, 4), z, atol=1e-6)


@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_a_moved_latent_is_compared_with_the_moved_picture(regularizer):
    ours = objective(regularizer, gradient_weight=0.0)
    pixels, noise = batch(regularizer)
    autoencoder = ours.trained.autoencoder
    for move in (0, 5):
        _, terms = ours(pixels, noise, move, False)
        latents = autoencoder.raw_latents(pixels)
        if noise is not None:
            posterior = autoencoder.posterior(pixels)
            latents = posterior.mean + posterior.std * noise
        moved = transform(latents, move)
        if noise is None:
            moved, _ = autoencoder.quantize(moved)
        expected = losses.reconstruction(autoencoder.reconstruct(moved), transform(pixels, move))
        assert torch.isclose(terms["reconstruction"], expected, atol=1e-6)
