import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from hypothesis import given
from hypothesis import strategies as st

from models.features import load_feature_network
from training import losses


def test_equal_pictures_cost_nothing():
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert losses.reconstruction(x, x) == 0
    assert losses.gradient(x, x) == 0
    assert losses.perceptual(load_feature_network(), x, x) < 1e-6


def test_gradient_loss_ignores_a_constant_offset_and_sees_an_edge():
    x = torch.zeros(1, 3, 16, 16)
    assert losses.gradient(x + 0.5, x) == 0
    edge = x.clone()
    edge[..., 8:] = 1
    # One of 15 horizontal differences is 1; halved, one of 7.
    assert torch.isclose(losses.gradient(edge, x), torch.tensor((1 / 15 + 1 / 7) / 2))


@given(mean=st.floats(-3, 3), logvar=st.floats(-6, 3))
def test_kl_equals_torchs_own_divergence_of_two_normals(mean, logvar):
    moments = torch.tensor([mean, logvar]).view(1, 2, 1, 1).repeat_interleave(4, 1)
    ours = losses.kl(DiagonalGaussianDistribution(moments))
    posterior = torch.distributions.Normal(torch.tensor(mean), torch.tensor(logvar / 2).exp())
    theirs = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert torch.isclose(ours, theirs, atol=1e-5)


def test_perceptual_loss_reaches_the_output_and_not_the_target():
    network = load_feature_network()
    output = torch.rand(1, 3, 32, 32, requires_grad=True)
    target = torch.rand(1, 3, 32, 32, requires_grad=True)
    losses.perceptual(network, output, target).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert target.grad is None


def test_the_flow_path_runs_from_latents_to_noise_at_the_velocity_that_costs_nothing():
    latents, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert torch.equal(losses.interpolate(latents, noise, torch.zeros(3)), latents)
    assert torch.equal(losses.interpolate(latents, noise, torch.ones(3)), noise)
    t, dt = torch.full((3,), 0.4), 0.1
    velocity = (losses.interpolate(latents, noise, t + dt) - losses.interpolate(latents, noise, t)) / dt
    assert losses.flow(velocity, latents, noise).max() < 1e-9
