"""Train DnCNN for blind colour denoising. It can be stopped at any time; the same command resumes it.

    python -m training.train IMAGES... --checkpoints FOLDER [--validate FOLDER]
    python -m training.train IMAGES... --checkpoints FOLDER --refine WEIGHTS [--scale N]

In the first form the network starts shallow; each stage deepens it without changing its function. The second form
continues from finished weights, on larger patches and at a lower rate. Layers compute in bfloat16; weights are float32.
The running mean of the weights is exported.
"""

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.data import Patches, Pixels, load_images
from training.evaluate import mean_psnr
from training.model import DEPTH, DnCNN, deepened, fresh
from training.state import save_whole, update_mean

SEED = 20170201
SIDE = 64  # side of a patch in pixels
REFINED_SIDE = 96
BATCH = 8
WARM_UP = 200  # steps
CHECKPOINT_EVERY = 250  # steps
VALIDATE_EVERY = 1000  # steps
VALIDATION_IMAGES = 6


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The training at one depth: the learning rate rises during the warm-up, then falls along a cosine."""

    depth: int
    steps: int
    rate: float
    last_rate: float

    def rate_at(self, step: int) -> float:
        if step < WARM_UP:
            return self.rate * (step + 1) / WARM_UP
        done = (step - WARM_UP) / (self.steps - WARM_UP)
        return self.last_rate + (self.rate - self.last_rate) * (1 + math.cos(math.pi * done)) / 2


def schedule(scale: float) -> list[Stage]:
    """The stages of a training from scratch; `scale` multiplies their lengths."""
    lengths = {6: 4000, 11: 4000, DEPTH: 12_000}
    rates = {6: (1e-3, 3e-4), 11: (7e-4, 2e-4), DEPTH: (5e-4, 1e-6)}
    return [
        Stage(depth=depth, steps=round(steps * scale), rate=rates[depth][0], last_rate=rates[depth][1])
        for depth, steps in lengths.items()
    ]


def refinement(scale: float) -> list[Stage]:
    """The single stage that continues from finished weights."""
    return [Stage(depth=DEPTH, steps=round(20_000 * scale), rate=2e-4, last_rate=1e-6)]


def loss_of(output: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Squared error divided by the usual error at this noise level, so that all levels have the same weight."""
    usual = 4e-5 * (sigma + 3) ** 1.1  # mean squared error of a good denoiser, fitted to published figures
    return ((output - clean).square().mean(dim=(1, 2, 3)) / usual).mean()


class Training:
    """The state of a training, and its checkpoint file."""

    def __init__(
        self, stages: list[Stage], patches: Patches, folder: Path, device: str, start: DnCNN | None = None
    ) -> None:
        """Continue from the checkpoint if there is one; otherwise begin with `start`, or with an untrained network."""
        self._stages = stages
        self._patches = patches
        self._file = folder / "checkpoint.pt"
        self._device = device
        self.stage = 0
        self.step = 0
        self._begin(start or fresh(stages[0].depth, torch.Generator().manual_seed(SEED)))
        if self._file.exists():
            self._load()

    @property
    def total(self) -> int:
        """The number of steps so far, over all stages; it is the number of the next batch."""
        return sum(stage.steps for stage in self._stages[: self.stage]) + self.step

    @property
    def finished(self) -> bool:
        return self.stage == len(self._stages) - 1 and self.step >= self._stages[-1].steps

    def _begin(self, net: DnCNN) -> None:
        self.net = net.to(self._device, memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.net).eval()
        self._optimizer = torch.optim.Adam(self.net.parameters(), betas=(0.9, 0.99))

    def advance(self) -> float:
        """Train for one step; returns its loss."""
        if self.step >= self._stages[self.stage].steps:
            self.stage, self.step = self.stage + 1, 0
            self._begin(deepened(self.mean.state_dict(), self._stages[self.stage].depth))
        for group in self._optimizer.param_groups:
            group["lr"] = self._stages[self.stage].rate_at(self.step)
        batch = self._patches.batch(self.total)
        noisy = batch.noisy.to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device, dtype=torch.bfloat16):
            output = self.net(noisy)
        loss = loss_of(output, batch.clean.to(self._device), batch.sigma.to(self._device))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self._optimizer.step()
        update_mean(self.mean, self.net, self.step)
        self.step += 1
        return loss.item()

    def save(self) -> None:
        state = {
            "stage": self.stage,
            "step": self.step,
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_whole(self._file, state)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self._file, weights_only=True, map_location=self._device)
        self.stage, self.step = state["stage"], state["step"]
        self._begin(DnCNN(self._stages[self.stage].depth))
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])

    def export(self, path: Path) -> None:
        """Save the running mean, deepened if the last stage has not begun."""
        net = self.mean if self.stage == len(self._stages) - 1 else deepened(self.mean.state_dict(), DEPTH)
        torch.save({key: value.contiguous().cpu() for key, value in net.state_dict().items()}, path)


def _finished(weights: Path) -> DnCNN:
    net = DnCNN()
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net


def _report(training: Training, loss: float, seconds: float, validation: list[Pixels]) -> None:
    line = f"step {training.total} stage {training.stage} loss {loss:.4f} {seconds:.0f} s"
    if validation and training.total % VALIDATE_EVERY == 0:
        net = copy.deepcopy(training.mean).cpu()
        figures = (f"{mean_psnr(net, validation, sigma, clipped=True):.2f}" for sigma in (25, 50))
        line += " 8 bit 25/50: " + "/".join(figures)
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="folders or patterns of clean images")
    parser.add_argument("--checkpoints", required=True, type=Path)
    parser.add_argument("--validate", type=Path, help="folder of images that are not used for training")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of steps of each stage")
    parser.add_argument("--refine", type=Path, help="weights to continue from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    images = [image for folder in options.images for image in load_images(folder)]
    validation = load_images(options.validate)[:VALIDATION_IMAGES] if options.validate else []
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    start = _finished(options.refine) if options.refine else None
    patches = Patches(images, side=REFINED_SIDE if start else SIDE, batch=BATCH, seed=SEED)
    stages = refinement(options.scale) if start else schedule(options.scale)
    training = Training(stages, patches, options.checkpoints, options.device, start)
    started = time.monotonic()
    losses = []
    while not training.finished:
        losses.append(training.advance())
        if training.step % CHECKPOINT_EVERY == 0:
            training.save()
            training.export(options.checkpoints / "dncnn_color_blind.pth")
            _report(training, sum(losses) / len(losses), time.monotonic() - started, validation)
            losses.clear()
    training.save()
    training.export(options.checkpoints / "dncnn_color_blind.pth")


if __name__ == "__main__":
    main()
