"""State that all trainings keep: a running mean of the weights, and checkpoint files that are written atomically."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

MEAN_OVER = 1000  # time constant of the running mean in steps


def update_mean(mean: nn.Module, net: nn.Module, step: int) -> None:
    """Add the weights of one more step to the running mean; in the first steps it covers a shorter time.

    Args:
        mean: a copy of the network that holds the mean weights; they are changed.
        net: the network after the step.
        step: number of steps before this one.
    """
    keep = min(1 - 1 / MEAN_OVER, step / (step + 10))
    with torch.no_grad():
        for average, value in zip(mean.parameters(), net.parameters(), strict=True):
            average.lerp_(value, 1 - keep)


def save_whole(file: Path, state: dict[str, Any]) -> None:
    """Replace a file atomically: if the process is killed, either the old file or the new one is there."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
