"""FGSM and PGD against finite differences, closed forms, captum, and their own promises."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from captum.robust import FGSM, PGD
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import Preprocess
from striate.explain.attacks.gradient import fgsm, in_levels, in_pixels, pgd, pixel_gradient

PREPROCESS = Preprocess(size=(8, 8), channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))


def small_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, stride=2), nn.Tanh(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(32, 5)).eval()


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(6, 3, 8, 8, generator=generator), torch.randint(5, (6,), generator=generator)


def each_loss(network, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(network(images), targets, reduction="none")


def test_the_gradient_is_that_of_finite_differences():
    """Through the normalisation: of 40 pixels, each moved by a hundredth of a grey level either way, in float64."""
    module, (images, targets) = small_network(), batch()
    found = pixel_gradient(in_pixels(module, PREPROCESS), images, targets)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    module.double()
    step = 0.01 / 255
    generator = torch.Generator().manual_seed(0)
    for place in torch.randperm(images.numel(), generator=generator)[:40].tolist():
        losses = []
        for side in (step, -step):
            moved = images.double().flatten().clone()
            moved[place] += side
            losses.append(F.cross_entropy(module((moved.view_as(images) - mean) / std), targets))
        expected = (losses[0] - losses[1]) / (2 * step)
        assert found.flatten()[place].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-6)


def test_on_a_linear_network_fgsm_raises_the_loss_by_epsilon_times_the_l1_norm():
    """Goodfellow et al. 2015, section 3: wᵀη grows by ε‖w‖₁, as no pixel is near 0 or 1."""
    weight = torch.randn(48, generator=torch.Generator().manual_seed(0))
    images = torch.full((2, 3, 4, 4), 0.5)

    def network(pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ weight

    def margin_lost(outputs: Tensor, targets: Tensor) -> Tensor:
        return (-targets * outputs).sum()

    targets = torch.tensor([1.0, -1.0])
    epsilon = 0.03
    reached = fgsm(network, images, targets, epsilon, loss=margin_lost)
    rises = -targets * (network(reached) - network(images))
    torch.testing.assert_close(rises, (epsilon * weight.abs().sum()).expand(2))
    towards = fgsm(network, images, targets, epsilon, loss=margin_lost, targeted=True)
    torch.testing.assert_close(towards, 2 * images - reached)


@pytest.mark.parametrize("epsilon", [0.0, 1 / 255, 0.1, 0.9])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd from the picture", "fast"])
def test_nothing_leaves_the_ball_or_the_valid_pixels(attack: str, epsilon: float):
    images, targets = batch()
    images[0, 0], images[0, 1] = 0.0, 1.0  # at both ends
    network = in_pixels(small_network(), PREPROCESS)
    generator = torch.Generator().manual_seed(0)
    found = {
        "fgsm": partial(fgsm, network, images, targets, epsilon),
        "pgd": partial(pgd, network, images, targets, epsilon, generator=generator),
        "pgd from the picture": partial(pgd, network, images, targets, epsilon, steps=3),
        "fast": partial(pgd, network, images, targets, epsilon, steps=1, step=1.25 * epsilon, generator=generator),
    }[attack]()
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - images).abs().max() <= epsilon + 1e-6


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not")
def test_captum_agrees():
    images, targets = batch()
    network, images = small_network().double(), images.double()  # in float32 gradients near 0 may differ in sign
    # theirs does not move pixels whose gradient is below 1e-6; no paper says so
    each = partial(F.cross_entropy, reduction="none")
    theirs = FGSM(network, each, lower_bound=0, upper_bound=1)
    theirs.zero_thresh = 0.0
    for targeted in (False, True):
        expected = theirs.perturb(images.clone(), epsilon=0.04, target=targets, targeted=targeted)
        found = fgsm(network, images, targets, 0.04, targeted=targeted)
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)
    climbing = PGD(network, each, lower_bound=0, upper_bound=1)
    climbing.fgsm.zero_thresh = 0.0
    expected = climbing.perturb(images.clone(), radius=0.05, step_size=0.02, step_num=5, target=targets)
    found = pgd(network, images, targets, 0.05, steps=5, step=0.02)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)


def test_more_steps_do_more_harm_and_less_when_wanted():
    images, targets = batch()
    network = in_pixels(small_network(), PREPROCESS)
    clean = each_loss(network, images, targets).mean()
    fast = each_loss(network, fgsm(network, images, targets, 0.1), targets).mean()
    slow = each_loss(network, pgd(network, images, targets, 0.1, steps=20), targets).mean()
    wanted = each_loss(network, pgd(network, images, targets, 0.1, steps=20, targeted=True), targets).mean()
    assert wanted < clean < fast <= slow


def test_a_seed_is_a_start():
    images, targets = batch()
    network = in_pixels(small_network(), PREPROCESS)

    def found(seed: int) -> Tensor:
        return pgd(network, images, targets, 0.1, steps=2, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(found(1), found(1))
    assert not torch.equal(found(1), found(2))


def test_the_network_is_left_as_it_was():
    module, (images, targets) = small_network(), batch()
    before = [parameter.clone() for parameter in module.parameters()]
    with torch.no_grad():  # whoever calls may have switched gradients off
        pgd(in_pixels(module, PREPROCESS), images, targets, 0.1, steps=2)
    assert not images.requires_grad
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, old)


def test_whole_grey_levels():
    images = torch.tensor([[[[0, 3, 128, 255]]]], dtype=torch.uint8)
    exact = images / 255 + torch.tensor([2.0, -2.0, 2.0, -2.0]) / 255
    assert in_levels(exact, images, 2 / 255).flatten().tolist() == [2, 1, 130, 253]
    # 1.9 levels would be rounded to 2, which is further than was allowed
    assert in_levels(images / 255 + 1.9 / 255, images, 1.9 / 255).flatten().tolist() == [1, 4, 129, 255]
    for levels in range(1, 256):  # no whole number of levels is lost to float's rounding
        assert in_levels(images + levels / 255, images, levels / 255)[0, 0, 0, 0] == levels
