"""Networks for the profiles `fast` and `camera` as PyTorch modules, only for training, export and parity tests.

They work on 2x2 blocks of pixels (12 channels at a quarter of the positions) and take a map of the noise level. They
consist of convolutions and ReLU only: a pixel of the result depends on its surroundings up to a halo. So tiles with a
halo give the same result as the whole image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.ml.unet import BLOCK, COLOURS, KERNEL, PLANES, Shape

CANDIDATES = {
    "plain-96": Shape(channels=(96,), outer=0, inner=5),  # FFDNet's size, with shortcuts: 12 convolutions
    "plain-64": Shape(channels=(64,), outer=0, inner=7),
    "unet-64-128": Shape(channels=(64, 128), outer=1, inner=4),
    "unet-48-128": Shape(channels=(48, 128), outer=1, inner=5),
    "unet-64-96": Shape(channels=(64, 96), outer=2, inner=4),
    "unet-48-96-160": Shape(channels=(48, 96, 160), outer=1, inner=1),
    "unet-64-128-256": Shape(channels=(64, 128, 256), outer=1, inner=1),
}


class Network(nn.Module):
    """A residual U-Net; with a single resolution, a plain residual network.

    Shapes:
        noisy: (batch, 3, height, width), float, RGB in 0..1; height and width multiples of `Shape.align`.
        noise_map: the same shape at half the resolution, standard deviation of the noise in 0..1.
        output: the predicted noise, shaped as `noisy`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        first = shape.channels[0]
        self.head = nn.Conv2d(PLANES + COLOURS, first, KERNEL, padding=1)
        outer, pairs = shape.channels[:-1], list(zip(shape.channels, shape.channels[1:], strict=False))
        self.before = nn.ModuleList(_blocks(channels, shape.outer) for channels in outer)
        self.down = nn.ModuleList(nn.Conv2d(upper, lower, 2, stride=2) for upper, lower in pairs)
        self.inner = _blocks(shape.channels[-1], shape.inner)
        self.up = nn.ModuleList(nn.Conv2d(lower, 4 * upper, 1) for upper, lower in pairs)
        self.after = nn.ModuleList(_blocks(channels, shape.outer) for channels in outer)
        self.tail = nn.Conv2d(first, PLANES, KERNEL, padding=1)

    def forward(self, noisy: Tensor, noise_map: Tensor) -> Tensor:
        places = torch.cat([functional.pixel_unshuffle(noisy, BLOCK), noise_map], dim=1)
        value = self.head(places)
        kept = []
        for before, down in zip(self.before, self.down, strict=True):
            value = before(value)
            kept.append(value)
            value = down(value)
        value = self.inner(value)
        for up, after, skipped in reversed(list(zip(self.up, self.after, kept, strict=True))):
            value = after(functional.pixel_shuffle(up(value), 2) + skipped)
        return functional.pixel_shuffle(self.tail(value).float(), BLOCK)


class Residual(nn.Module):
    """Two convolutions with a shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, KERNEL, padding=1)
        self.second = nn.Conv2d(channels, channels, KERNEL, padding=1)

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = value + self.second(functional.relu(self.first(value)))
        return result


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


def fresh(shape: Shape, generator: torch.Generator) -> Network:
    """An untrained network: its residual blocks are almost the identity, and it predicts almost no noise."""
    net = Network(shape)
    with torch.no_grad():
        for name, layer in net.named_modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            gain = 0.05 if name.endswith("second") or name == "tail" else 1.0
            inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * gain * (2 / inputs) ** 0.5)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return net
