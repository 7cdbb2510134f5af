"""Images that stay on a device, and batches of them, normalised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from kdrun.data.views import Views
from kdrun.types import Rows


class Normal:
    """From pixels to what a model sees. ends_in: the precision of the result; computed in float32."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], white: float, device: torch.device | str
    ) -> None:
        """mean, std: one for each channel, of pixels divided by `white`."""
        # On a GPU, dividing by a Python number multiplies by its inverse: other bits than on a CPU.
        self.ends_in, self.device = torch.float32, torch.device(device)
        self.white = torch.tensor(white, dtype=torch.float32, device=device)
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32, device=device).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32, with channels_last strides. No copy to the host. `(pixels / white - mean) /
        std` in that order: equal bit for bit to torchvision's ToTensor and Normalize.
        """
        images = pixels.to(torch.float32, memory_format=torch.channels_last, copy=True)
        images.div_(self.white).sub_(self.mean)
        if self.ends_in == torch.float32:
            return images.div_(self.std)
        ended = torch.empty_like(images, dtype=self.ends_in)
        return torch.div(images, self.std, out=ended)


class Resident:
    """The images of one part on a device. Called with any number of rows on that device."""

    capturable = True

    def __init__(self, images: Tensor, views: Views, normal: Normal) -> None:
        """images: (N, C, H, W) uint8; kept on the device of `normal`."""
        self.views, self.normal = views, normal
        self.store = views.store(images.to(normal.device))

    @property
    def memory(self) -> int:
        """Bytes that the images take on the device."""
        return self.store.numel() * self.store.element_size()

    def prepare(self, parts: Iterable[Rows]) -> None:
        """Does nothing: all images are there."""

    def close(self) -> None:
        """Does nothing: there are no processes to end."""

    def __len__(self) -> int:
        return len(self.store)

    def __call__(self, rows: Rows) -> Tensor:
        """(B, C, H, W) float32, normalised, with channels_last strides. No copy to the host."""
        return self.normal(self.views.gather(self.store, rows.index, rows.view))

    def in_turn(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        """The images of each of the parts."""
        return map(self, parts)
