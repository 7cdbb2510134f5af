"""Regressors (Romero et al. 2015): they bring a student's layer to the shape of the teacher's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, ...]


class MapRegressor(nn.Module):
    """Convolution, batch norm and ReLU: (N, C, H, W) of the student to the teacher's (C', H', W'): 3x3 with
    stride 2 if the student's map is twice as large, transposed 4x4 if it is half as large, otherwise 1x1,
    after adaptive average pooling if the sizes differ.
    """

    def __init__(self, student: Size, teacher: Size, relu: bool = True) -> None:
        super().__init__()
        channels, out = student[0], teacher[0]
        (h, w), (h_out, w_out) = student[1:], teacher[1:]
        self.size = (h_out, w_out)
        self.relu = relu
        if (h, w) == (2 * h_out, 2 * w_out):
            self.conv: nn.Module = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        elif (2 * h, 2 * w) == (h_out, w_out):
            self.conv = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(channels, out, 1)
        self.pool = (
            isinstance(self.conv, nn.Conv2d) and self.conv.kernel_size == (1, 1) and (h, w) != self.size
        )
        self.bn = nn.BatchNorm2d(out)

    def forward(self, features: Tensor) -> Tensor:
        if self.pool:
            features = F.adaptive_avg_pool2d(features, self.size)
        regressed = batch_norm(self.conv(features), self.bn)
        return F.relu(regressed) if self.relu else regressed


class Connector(nn.Module):
    """1x1 convolution without bias, batch norm and, if wanted, ReLU: (N, C, H, W) to (N, C', H, W)."""

    def __init__(self, channels: int, out: int, relu: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        connected = batch_norm(self.conv(features), self.bn)
        return F.relu(connected) if self.relu else connected


class VectorRegressor(nn.Module):
    """A linear layer, (N, ..., D) to (N, ..., D'); a map (N, C, H, W) is averaged over positions first."""

    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        self.average = len(student) == 3
        self.linear = nn.Linear(student[0] if self.average else student[-1], teacher[-1])

    def forward(self, features: Tensor) -> Tensor:
        regressed: Tensor = self.linear(features.mean(dim=(2, 3)) if self.average else features)
        return regressed


def regressor(student: Size, teacher: Size) -> nn.Module | None:
    """A regressor between two layers by their shapes for one image, or None. Maps (C, H, W): `MapRegressor`.
    Vectors (D), equally many tokens (T, D), or a map to a vector: `VectorRegressor`.
    """
    if len(student) == 3 and len(teacher) == 3:
        return MapRegressor(student, teacher)
    same_but_width = len(student) == len(teacher) and student[:-1] == teacher[:-1]
    if same_but_width or (len(student) == 3 and len(teacher) == 1):
        return VectorRegressor(student, teacher)
    return None


def batch_norm(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm, with its running statistics if a channel has one value only (a batch of one, a 1x1 map)."""
    single = features.numel() == features.shape[1]
    if norm.training and single:
        return F.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
        )
    normalised: Tensor = norm(features)
    return normalised


def to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of maps (N, C, H, W) at the smaller size, by adaptive average pooling of the larger."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return resized(student, size), resized(teacher, size)


def resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, C, H, W) at another size, by adaptive average pooling."""
    return features if tuple(features.shape[2:]) == size else F.adaptive_avg_pool2d(features, size)
