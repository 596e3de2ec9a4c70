"""Train a network of `training/networks.py`. It can be stopped at any time; the same command resumes it.

    python -m training.train_network IMAGES... --network NAME --checkpoints FOLDER [--steps N] [--validate FOLDER]
    python -m training.train_network IMAGES... --network NAME --checkpoints FOLDER --start CHECKPOINT --decay N

The first form has a constant learning rate, so it can be continued at any time. The second one continues from a
checkpoint of the first and lowers the rate to zero within N steps; its weights are the ones to use. N may change when
it is resumed. The first form exports the running mean of the weights, the second one the weights themselves. Layers
compute in bfloat16; weights are float32.
"""

import argparse
import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.camera import CAMERA
from training.data import load_images
from training.evaluate_network import validation_line
from training.networks import CANDIDATES, fresh
from training.noise import GAUSSIAN, Batch, NoisyPatches
from training.state import save_whole, update_mean

SEED = 20261128
SIDE = 96  # side of a patch in pixels
BATCH = 8
RATE = 1e-3
WARM_UP = 100  # steps
CHECKPOINT_EVERY = 100  # steps
VALIDATE_EVERY = 1000  # steps
VALIDATION_IMAGES = 6
WEIGHTS = "weights.pth"
NOISES = {"gaussian": GAUSSIAN, "camera": CAMERA}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate: constant after a warm-up, or falling to zero within `decay` steps."""

    rate: float = RATE
    decay: int | None = None

    def left(self, step: int, begin: int) -> float:
        """Factor for the rate at `step`, which counts all parts of the training; this part began at step `begin`."""
        return max(0.0, 1 - (step - begin) / self.decay) if self.decay else 1.0


def loss_of(predicted: Tensor, batch: Batch) -> Tensor:
    """Squared error divided by the usual error at this noise level, so that all levels have the same weight."""
    usual = 4e-5 * (batch.sigma + 3) ** 1.1  # mean squared error of a good denoiser, fitted to published figures
    error = (batch.noisy - predicted - batch.clean).square().mean(dim=(1, 2, 3))
    return (error / usual).mean()


class Training:
    """The state of a training, and its checkpoint file."""

    def __init__(self, network: str, patches: NoisyPatches, folder: Path, schedule: Schedule) -> None:
        self._patches = patches
        self._schedule = schedule
        self.file = folder / "checkpoint.pt"
        self.begin = 0
        self.step = 0
        self.net = fresh(CANDIDATES[network], torch.Generator().manual_seed(SEED)).to(memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.net).eval()
        self._optimizer = torch.optim.Adam(self.net.parameters(), betas=(0.9, 0.99))
        self._ahead = ThreadPoolExecutor(1)
        self._next: Future[Batch] | None = None
        if self.file.exists():
            self._load(self.file)

    def start_from(self, checkpoint: Path) -> None:
        """Load the checkpoint of another training, unless this one has a checkpoint itself."""
        if not self.file.exists():
            self._load(checkpoint)
            self.begin = self.step

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.full_rate * self._schedule.left(self.step, self.begin)

    @property
    def full_rate(self) -> float:
        return self._schedule.rate * min(1.0, (self.step + 1) / WARM_UP)

    @property
    def result(self) -> nn.Module:
        """The network to export: the running mean, or with a falling rate the weights themselves.

        With a falling rate the mean lags behind: after 2,200 steps it was 0.07 to 0.2 dB worse.
        """
        return self.net if self._schedule.decay else self.mean

    def advance(self) -> float:
        """Train for one step; returns its loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        batch = self._batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = self.net(batch.noisy.contiguous(memory_format=torch.channels_last), batch.noise_map)
        loss = loss_of(predicted, batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self._optimizer.step()
        update_mean(self.mean, self.net, self.step)
        self.step += 1
        return loss.item()

    def _batch(self) -> Batch:
        """The patches of this step; those of the next one are prepared in the background."""
        ready = self._next or self._ahead.submit(self._patches.batch, self.step)
        batch = ready.result()
        self._next = self._ahead.submit(self._patches.batch, self.step + 1)
        return batch

    def save(self) -> None:
        state = {
            "begin": self.begin,
            "step": self.step,
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_whole(self.file, state)
        save_weights(self.file.with_name(WEIGHTS), self.result)

    def close(self) -> None:
        self._ahead.shutdown(cancel_futures=True)

    def _load(self, file: Path) -> None:
        state: dict[str, Any] = torch.load(file, weights_only=True)
        self.begin, self.step = state["begin"], state["step"]
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])


def save_weights(file: Path, net: nn.Module) -> None:
    """Save weights in the memory layout that the service reads."""
    save_whole(
        file, {key: value.clone(memory_format=torch.contiguous_format) for key, value in net.state_dict().items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="folders or patterns of clean images")
    parser.add_argument("--network", required=True, choices=CANDIDATES)
    parser.add_argument("--noise", default="gaussian", choices=NOISES)
    parser.add_argument("--checkpoints", required=True, type=Path)
    parser.add_argument("--start", type=Path, help="checkpoint of another training to continue from")
    parser.add_argument("--rate", type=float, default=RATE, help="initial learning rate")
    parser.add_argument("--decay", type=int, help="number of steps over which the learning rate falls to zero")
    parser.add_argument(
        "--side", type=int, default=SIDE, help="side of a patch in pixels; smaller patches make the first steps faster"
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="step to stop at, counted over all parts")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="CPU seconds to stop after")
    parser.add_argument("--validate", type=Path, help="folder of images that are not used for training")
    options = parser.parse_args()

    images = [image for folder in options.images for image in load_images(folder)]
    validation = load_images(options.validate)[:VALIDATION_IMAGES] if options.validate else []
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    patches = NoisyPatches(images, NOISES[options.noise], side=options.side, batch=BATCH, seed=SEED)
    training = Training(options.network, patches, options.checkpoints, Schedule(rate=options.rate, decay=options.decay))
    if options.start:
        training.start_from(options.start)
    end = training.begin + options.decay if options.decay else options.steps
    started, used = time.monotonic(), time.process_time()
    losses = []
    while training.step < end and time.process_time() - used < options.seconds:
        losses.append(training.advance())
        if training.step % CHECKPOINT_EVERY == 0:
            training.save()
            line = f"step {training.step} loss {sum(losses) / len(losses):.4f}"
            line += f" {time.monotonic() - started:.0f} s, CPU {time.process_time() - used:.0f} s"
            if validation and training.step % VALIDATE_EVERY == 0:
                line += validation_line(training.result, validation)
            print(line, flush=True)
            losses.clear()
    training.save()
    training.close()
    print(f"stopped at step {training.step}", flush=True)


if __name__ == "__main__":
    main()
