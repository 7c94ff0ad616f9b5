"""The two kinds of sub-blocks that residual networks are made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(into, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(into, width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation whose output is added to the shortcut."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the block's width, 1/stride of the sides."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5 right); the 3x3 one has the stride."""

    expansion = 4

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(into, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, self.expansion * width, 1)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.downsample = _projection(into, self.expansion * width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation whose output is added to the shortcut."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of four times the block's width, 1/stride of the sides."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


def convolution(into: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the sides, or divides them by the stride."""
    return nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=False)


def _projection(into: int, out: int, stride: int) -> nn.Module | None:
    """What fits the shortcut to another size; none where it is the same (option B of the paper)."""
    if stride == 1 and into == out:
        return None
    return nn.Sequential(convolution(into, out, 1, stride), nn.BatchNorm2d(out))
