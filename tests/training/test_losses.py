import math

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution, VectorQuantizer
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


def test_the_negative_log_likelihood_is_least_where_the_scale_is_the_distance():
    logvar = torch.tensor(math.log(0.2), requires_grad=True)
    value = losses.nll(torch.tensor(0.2), logvar)
    value.backward()
    assert float(value.detach()) == pytest.approx(1 + math.log(0.2))
    assert logvar.grad is not None
    assert abs(float(logvar.grad)) < 1e-6
    assert losses.nll(torch.tensor(0.37), torch.tensor(0.0)) == torch.tensor(0.37)


def test_the_codebook_loss_puts_beta_before_the_commitment():
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True)
    codes = torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True)
    loss = losses.codebook(z, codes, commitment=0.25)
    loss.backward()
    difference = (z - codes).detach()
    assert torch.isclose(loss, 1.25 * difference.square().mean())
    # d/dz beta |z - sg[e]|^2 and d/de |sg[z] - e|^2, each a mean over elements.
    assert torch.allclose(z.grad, 0.25 * 2 * difference / difference.numel())
    assert torch.allclose(codes.grad, -2 * difference / difference.numel())


def test_the_codebook_loss_is_that_of_diffusers_without_its_legacy_swap():
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, 4)
    for legacy in (False, True):
        quantizer = VectorQuantizer(8, 3, beta=0.25, legacy=legacy)
        torch.nn.init.normal_(quantizer.embedding.weight)
        _, theirs, (_, _, numbers) = quantizer(z)
        theirs.backward()
        gradient = quantizer.embedding.weight.grad.clone()
        quantizer.zero_grad()
        codes = quantizer.embedding(numbers).view(2, 4, 4, 3).movedim(-1, 1)
        ours = losses.codebook(z, codes, commitment=0.25)
        ours.backward()
        assert torch.isclose(ours, theirs)  # the swap shows in the gradient alone
        ratio = 4.0 if legacy else 1.0
        assert torch.allclose(quantizer.embedding.weight.grad, ratio * gradient, atol=1e-7)


def test_the_hinge_asks_for_logits_beyond_one_and_no_further():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
    assert losses.discriminator(real, fake) == pytest.approx((0.5 + 2) / 3)
    assert losses.discriminator(torch.tensor([1.0]), torch.tensor([-1.0])) == 0
    assert losses.generator(fake) == pytest.approx(0.5)


def test_the_adaptive_weight_is_the_bounded_ratio_of_gradient_norms():
    nll, generator = torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.8])
    assert losses.adaptive_weight(nll, generator) == pytest.approx(5 / (1 + 1e-4))
    assert losses.adaptive_weight(nll, 0 * generator) == 10
    assert losses.adaptive_weight(nll, 0 * generator, highest=1e4) == 1e4
