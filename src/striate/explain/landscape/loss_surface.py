"""The loss around a network's weights, along random directions that are as large as its filters.

Li, Xu, Taylor, Studer & Goldstein 2018, arXiv:1712.09913. Two networks can be compared only when a step means the same
to both: a random direction's every filter is scaled to the norm of the network's own filter (section 4), so that a step
of 1 changes every filter by as much as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from striate.data.seeds import seed_of
from striate.device import pick_precision
from striate.tasks import Task

Weights = Mapping[str, Tensor]  # parameters by name
Batches = Sequence[tuple[Tensor, Tensor]]  # normalised pictures [B, C, H, W] and targets

SPAN = 1.0  # the drawn square reaches from -1 to 1 along both directions
LINES = 5  # random directions besides the two of the square, for what is said of all directions


@dataclass(frozen=True, eq=False)
class Landscape:
    """Losses around one network.

    Attributes:
        axis: [n], from -1 to 1, of both directions.
        surface: float64 [n, n], the mean loss at axis[column] along the first and axis[row] along the second direction.
        lines: float64 [LINES, n], along other directions.
        centre: the loss of the network itself, in the precision of the surface.
        centre_fp32: the same in float32.
    """

    axis: Tensor
    surface: Tensor
    lines: Tensor
    centre: float
    centre_fp32: float

    def nearest(self, radius: float) -> float:
        """The distance from the centre, above 0, at which there are points, nearest to the one asked for."""
        return float(self.axis[self._nearest(radius)])

    def rise(self, radius: float) -> float:
        """How much higher the loss is at about this distance, on the average over the lines, either way."""
        at = self._nearest(radius)
        return float(self.lines[:, [at, len(self.axis) - 1 - at]].mean()) - self.centre

    def _nearest(self, radius: float) -> int:
        middle = len(self.axis) // 2
        return middle + 1 + int((self.axis[middle + 1 :] - radius).abs().argmin())

    @property
    def bent_down(self) -> float:
        """The share of the inner square, to half the span, where the surface is not convex.

        There the smaller eigenvalue of its second differences is below minus a hundredth of the larger one's size: what
        figure 7 of the paper shows of the whole Hessian, here of the two directions drawn.
        """
        height = self.surface
        across = height[1:-1, 2:] - 2 * height[1:-1, 1:-1] + height[1:-1, :-2]
        down = height[2:, 1:-1] - 2 * height[1:-1, 1:-1] + height[:-2, 1:-1]
        both = (height[2:, 2:] - height[2:, :-2] - height[:-2, 2:] + height[:-2, :-2]) / 4
        middle, spread = (across + down) / 2, ((across - down).square() / 4 + both.square()).sqrt()
        inner = (self.axis[1:-1].abs() <= SPAN / 2 + 1e-6).nonzero().flatten()
        bent = (middle - spread < -0.01 * (middle.abs() + spread))[inner][:, inner]
        return float(bent.double().mean())


def random_direction(weights: Weights, seed: int, number: int | str) -> dict[str, Tensor]:
    """A Gaussian direction, each filter of it with the norm of the network's; 0 for biases and batch norms.

    Section 4 of the paper, d_ij ← d_ij / ‖d_ij‖ · ‖θ_ij‖. A filter is what makes one output channel; of a fully
    connected layer, one neuron. Drawn by name, so that it is the same wherever the parameter stands.
    """
    direction = {}
    for name, value in weights.items():
        if value.ndim < 2:
            direction[name] = torch.zeros_like(value)
            continue
        generator = torch.Generator().manual_seed(seed_of(seed, "direction", number, name))
        drawn = torch.randn(value.shape, generator=generator)
        scale = filter_norms(value.cpu()) / filter_norms(drawn).clamp(min=1e-12)
        direction[name] = (drawn * scale).to(value)
    return direction


def filter_norms(value: Tensor) -> Tensor:
    """[O, …] → norms of each of the O filters, shaped to be multiplied with it."""
    return value.flatten(1).norm(dim=1).view(-1, *[1] * (value.ndim - 1))


def moved(weights: Weights, directions: Sequence[Weights], steps: Sequence[float]) -> dict[str, Tensor]:
    """θ + Σ step · direction."""
    found = dict(weights)
    for direction, step in zip(directions, steps, strict=True):
        found = {name: torch.add(value, direction[name], alpha=step) for name, value in found.items()}
    return found


def loss_at(network: nn.Module, weights: Weights, batches: Batches, task: Task) -> Tensor:
    """The mean loss over all batches, float64 [], of the network with these weights; its own stay as they are.

    Batch norms use their running statistics, as in the paper; the network must be in evaluation mode.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for images, targets in batches:
        loss = task.loss(functional_call(network, dict(weights), (images,)), targets)["loss"]
        total = total + len(images) * loss.double().cpu()
        count += len(images)
    return total / count


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The parameters, detached: nothing that is done with them reaches the network."""
    return {name: value.detach() for name, value in network.named_parameters()}


@torch.no_grad()
def measure_landscape(
    network: nn.Module,
    batches: Batches,
    task: Task,
    points: int = 21,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Landscape:
    """Losses on a square grid along two directions, and on lines along others; bf16 where the device has it.

    Args:
        points: of each axis; odd, so that the network itself is one of them.
    """
    weights = weights_of(network)
    axis = torch.linspace(-SPAN, SPAN, points, dtype=torch.float64)
    axis[points // 2] = 0.0
    first, second = (random_direction(weights, seed, number) for number in ("first", "second"))
    surface, lines = torch.zeros(points, points, dtype=torch.float64), torch.zeros(LINES, points, dtype=torch.float64)
    with in_precision(batches):
        for row, up in enumerate(axis.tolist()):
            for column, across in enumerate(axis.tolist()):
                place = moved(weights, (first, second), (across, up))
                surface[row, column] = loss_at(network, place, batches, task)
            say(f"row {row + 1} of {points}")
        for number in range(LINES):
            direction = random_direction(weights, seed, number)
            for column, step in enumerate(axis.tolist()):
                lines[number, column] = loss_at(network, moved(weights, (direction,), (step,)), batches, task)
        say(f"{LINES} more directions")
    plain = float(loss_at(network, weights, batches, task))
    return Landscape(axis, surface, lines, float(surface[points // 2, points // 2]), plain)


def in_precision(batches: Batches) -> AbstractContextManager[object]:
    device = batches[0][0].device
    if pick_precision("auto", device) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
