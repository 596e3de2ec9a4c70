"""Quantization-aware training: continues a trained network with its convolutions rounded to 8 bits.

    python -m training.quantized IMAGES... --network NAME --start CHECKPOINT --checkpoints FOLDER [--steps N]

First the range of values of each layer is measured on training patches, then the weights are trained within these
ranges. The same command resumes it. `weights.pth` is a checkpoint for `app.ml.unet.load(..., quantized=True)`.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.ml.quantization import MOST, STEPS, affine
from training.data import load_images
from training.networks import CANDIDATES, Network
from training.noise import Batch, NoisyPatches
from training.state import save_whole
from training.train_network import BATCH, NOISES, SEED, WEIGHTS, loss_of, save_weights

STEPS_BY_DEFAULT = 300
RATE = 1e-4  # learning rate of the first step; it falls to zero
SIDE = 96  # side of a patch in pixels
RANGES_FROM = 24  # number of batches on which the ranges are measured
CHECKPOINT_EVERY = 50  # steps
FLOAT_LAYERS = ("head", "tail")


class ByteConv2d(nn.Conv2d):
    """A convolution with input, weights and output rounded to 8 bits; gradients ignore the rounding."""

    def __init__(self, conv: nn.Conv2d, *, rounds_output: bool) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, stride=conv.stride, padding=conv.padding
        )
        self.load_state_dict(conv.state_dict())
        self.watching = False
        self.register_buffer("input_range", torch.zeros(2))
        if rounds_output:
            self.register_buffer("output_range", torch.zeros(2))
        self._rounds_output = rounds_output

    def forward(self, value: Tensor) -> Tensor:
        value = self._rounded(self.input_range, value)
        scales = (self.weight.detach().abs().amax(dim=(1, 2, 3)) / MOST).clamp_min(torch.finfo(torch.float32).tiny)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, scales, torch.zeros_like(scales, dtype=torch.int32), 0, -MOST, MOST
        )
        value = functional.conv2d(value, weight, self.bias, self.stride, self.padding)
        return self._rounded(self.output_range, value) if self._rounds_output else value

    def _rounded(self, range_: Tensor, value: Tensor) -> Tensor:
        if self.watching:
            range_[0], range_[1] = torch.minimum(range_[0], value.amin()), torch.maximum(range_[1], value.amax())
            return value
        scale = affine(*range_.tolist())
        return torch.fake_quantize_per_tensor_affine(value, scale.scale, scale.zero, 0, STEPS)


def on_bytes(net: Network) -> list[ByteConv2d]:
    """Replace the network's convolutions except the first and the last one; returns the new ones."""
    changed = []
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.Conv2d) and name not in FLOAT_LAYERS:
            parent, _, own = name.rpartition(".")
            new = ByteConv2d(layer, rounds_output=own != "first")
            setattr(net.get_submodule(parent), own, new)
            changed.append(new)
    return changed


class Quantizing:
    """The state of a quantization-aware training, and its checkpoint file."""

    def __init__(self, network: str, start: Path, patches: NoisyPatches, folder: Path, steps: int) -> None:
        self._patches, self._folder, self._steps = patches, folder, steps
        self.step = 0
        self.net = Network(CANDIDATES[network])
        self.net.load_state_dict(torch.load(start, weights_only=True)["net"])
        self._layers = on_bytes(self.net)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.Adam(self.net.parameters(), betas=(0.9, 0.99))
        if self._file.exists():
            state = torch.load(self._file, weights_only=True)
            self.step = state["step"]
            self.net.load_state_dict(state["net"])
            self._optimizer.load_state_dict(state["optimizer"])
        else:
            self._find_ranges()

    @property
    def _file(self) -> Path:
        return self._folder / "checkpoint.pt"

    def advance(self) -> float:
        """Train for one step; returns its loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * max(0.0, 1 - self.step / self._steps)
        batch = self._patches.batch(self.step)
        loss = loss_of(self._predicted(batch), batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        return loss.item()

    def save(self) -> None:
        state = {"step": self.step, "net": self.net.state_dict(), "optimizer": self._optimizer.state_dict()}
        save_whole(self._file, state)
        save_weights(self._folder / WEIGHTS, self.net)

    def _find_ranges(self) -> None:
        with torch.no_grad():
            self._watch(True)
            for number in range(RANGES_FROM):  # batches after those of the training steps
                self._predicted(self._patches.batch(self._steps + number))
            self._watch(False)

    def _watch(self, watching: bool) -> None:
        for layer in self._layers:
            layer.watching = watching

    def _predicted(self, batch: Batch) -> Tensor:
        predicted: Tensor = self.net(batch.noisy.contiguous(memory_format=torch.channels_last), batch.noise_map)
        return predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="folders or patterns of clean images")
    parser.add_argument("--network", required=True, choices=CANDIDATES)
    parser.add_argument("--noise", default="gaussian", choices=NOISES)
    parser.add_argument("--start", required=True, type=Path, help="checkpoint of the finished training")
    parser.add_argument("--checkpoints", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=STEPS_BY_DEFAULT)
    options = parser.parse_args()

    images = [image for folder in options.images for image in load_images(folder)]
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    patches = NoisyPatches(images, NOISES[options.noise], side=SIDE, batch=BATCH, seed=SEED)
    training = Quantizing(options.network, options.start, patches, options.checkpoints, options.steps)
    used, losses = time.process_time(), []
    while training.step < options.steps:
        losses.append(training.advance())
        if training.step % CHECKPOINT_EVERY == 0:
            training.save()
            print(f"step {training.step} loss {sum(losses) / len(losses):.4f} CPU {time.process_time() - used:.0f} s")
            losses.clear()
    training.save()


if __name__ == "__main__":
    main()
