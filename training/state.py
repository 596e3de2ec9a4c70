"""What every training keeps: a running mean of the weights, and checkpoint files that are whole."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

MEAN_OVER = 1000  # steps of the running mean


def update_mean(mean: nn.Module, net: nn.Module, step: int) -> None:
    """Take the weights of one more step into the running mean, which is younger at the start.

    Args:
        mean: the same network; its weights are changed.
        net: after the step.
        step: how many steps there were before.
    """
    keep = min(1 - 1 / MEAN_OVER, step / (step + 10))
    with torch.no_grad():
        for average, value in zip(mean.parameters(), net.parameters(), strict=True):
            average.lerp_(value, 1 - keep)


def save_whole(file: Path, state: dict[str, Any]) -> None:
    """Write a file that is either the old one or the new one, whenever the process is killed."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
