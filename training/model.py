"""DnCNN as a PyTorch module, only for training, export and parity tests.

Zhang et al., "Beyond a Gaussian Denoiser", IEEE TIP 2017. The keys of the state dict are those of the authors' release:
`model.0.weight`, `model.0.bias`, `model.2.weight`, ... `model.38.bias`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CHANNELS = 64
DEPTH = 20  # convolutions


class DnCNN(nn.Module):
    """Predicts the noise of an RGB image and subtracts it.

    Shapes:
        input and output: (batch, 3, height, width), float, 0..1.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [_passing(), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(CHANNELS, 3, 3, padding=1))
        self.model = nn.Sequential(*layers)

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy - self.model(noisy).float()


def fresh(depth: int, generator: torch.Generator) -> DnCNN:
    """An untrained network.

    Its inner layers are the identity plus a little noise, so a deep network without batch norm learns from the first
    step on (Zagoruyko and Komodakis, "DiracNets", 2017).
    """
    net = DnCNN(depth)
    *others, last = (layer for layer in net.model if isinstance(layer, nn.Conv2d))
    first, *inner = others
    with torch.no_grad():
        for layer in (first, last):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        first.weight.copy_(_normal(first, 2.0, generator))
        last.weight.copy_(_normal(last, 0.01, generator))
        for layer in inner:
            layer.weight.add_(_normal(layer, 0.1, generator))
    return net


def _normal(layer: nn.Conv2d, gain: float, generator: torch.Generator) -> Tensor:
    """Gaussian weights whose variance is `gain` over the number of inputs."""
    return torch.randn(layer.weight.shape, generator=generator) * (gain / (layer.in_channels * 9)) ** 0.5


def _passing() -> nn.Conv2d:
    """A convolution that is the identity; after any ReLU, it and a further ReLU change nothing."""
    layer = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def deepened(state: Mapping[str, Tensor], depth: int) -> DnCNN:
    """The same function as a deeper network: identity layers, spread evenly between the trained ones.

    Chen et al., "Net2Net", ICLR 2016: a shallow network learns most of the task at a fraction of the cost.
    """
    shallow = sorted({int(key.split(".")[1]) for key in state})
    inner = shallow[1:-1]
    net = DnCNN(depth)
    places = [round((index + 0.5) * (depth - 2) / len(inner) + 0.5) for index in range(len(inner))]
    target = {shallow[0]: 0, shallow[-1]: depth - 1} | dict(zip(inner, places, strict=True))
    if len(set(target.values())) != len(shallow):
        raise ValueError(f"{len(shallow)} layers do not fit into {depth}")
    own = net.state_dict()
    for layer, place in target.items():
        for kind in ("weight", "bias"):
            own[f"model.{2 * place}.{kind}"].copy_(state[f"model.{layer}.{kind}"])
    net.load_state_dict(own)
    return net
