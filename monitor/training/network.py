"""The fingerprint network: five strided convolutions over standardised log power."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

DIMENSION = 128
CHANNELS = (32, 64, 128, 256, 384)
#: Nepers of power (60 dB) below a window's loudest band under which nothing counts.
_FLOOR = 13.8


class Network(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Maps (B, frames, bands) log power to (B, DIMENSION) unit vectors. Gain cancels out in the standardisation."""

    def __init__(self, frames: int, bands: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels in CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels)]
            layers += [nn.ReLU()]
            before = channels
        shrink = 2 ** len(CHANNELS)
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before * (frames // shrink) * (bands // shrink), DIMENSION)

    def forward(self, log_power: Tensor) -> Tensor:
        """Give unit vectors; a silent window gives a constant one."""
        return functional.normalize(self.raw(standardise(log_power)).float())

    def raw(self, standard: Tensor) -> Tensor:
        """Give vectors before they are scaled to norm 1, from standardised windows."""
        return self.head(self.body(standard.unsqueeze(1)).flatten(1))


def standardise(log_power: Tensor) -> Tensor:
    """Limit each window to 60 dB below its peak, then remove its mean and deviation."""
    peak = log_power.amax(dim=(1, 2), keepdim=True)
    limited = (log_power - peak).clamp(min=-_FLOOR)
    centred = limited - limited.mean(dim=(1, 2), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return centred / (deviation + 0.01)
