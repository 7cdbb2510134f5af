"""Augmentation as views of an image: a finite set with codes (`none`, `crop_flip`) or continuous (`affine`,
`resized_crop`).

A view is drawn on the CPU, as a number or a few, for a whole epoch at once; pixels are moved on the device
that holds the images. Gathering copies nothing to the host, so it can be captured in a CUDA graph.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

import kdrun.lookup as lookup
from kdrun.errors import KdrunError

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


class Views(ABC):
    """An augmentation: abstract here or final below. count: the views of a finite set, each as likely as the
    others; None if draws are continuous.
    """

    count: int | None

    @abstractmethod
    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        """Views for n images: (n,) int64 codes, or (n, P) float32 parameters, on the CPU."""

    @abstractmethod
    def store(self, images: Tensor) -> Tensor:
        """What `gather` reads, made once from (N, C, H, W) uint8, on the same device."""

    @abstractmethod
    def gather(self, store: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """Images `index` (B,) in their views: (B, C, H, W), uint8 or float32, in the pixels' own range."""


class Plain(Views):
    """The image as it is: one view, code 0."""

    count = 1

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        return torch.zeros(n, dtype=torch.int64)

    def store(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).contiguous()

    def gather(self, store: Tensor, index: Tensor, view: Tensor) -> Tensor:
        return store.index_select(0, index).permute(0, 3, 1, 2)


class CropFlip(Views):
    """A crop of the image with a border of zeros, mirrored or not: torchvision's RandomCrop and flip.

    The code of a view is `(dy * (2 padding + 1) + dx) * 2 + mirrored` (without flip: not doubled); the crop
    begins at row dy and column dx. A pixel is stored as one number of 1, 2, 4 or 8 bytes, so that one lookup
    moves it.
    """

    def __init__(self, shape: Shape, padding: int = 4, flip: bool = True) -> None:
        """padding: of the border, in pixels; 0 for none. flip: whether half of the views are mirrored. Raises
        KdrunError for a padding above the image's size, and for more than 8 channels.
        """
        most = max(shape[1:])
        if not 0 <= padding <= most:
            raise KdrunError("dataset.views.padding", padding, f"must be from 0 to {most} pixels")
        if shape[0] > 8:
            raise KdrunError("dataset.views.name", "crop_flip", f"takes 8 channels at most, not {shape[0]}")
        self.shape, self.padding, self.flip = shape, padding, flip
        self.count: int = (2 * padding + 1) ** 2 * (1 + flip)

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        return torch.randint(self.count, (n,), generator=generator)

    def store(self, images: Tensor) -> Tensor:
        """The padded images, (N, H + 2 padding, W + 2 padding), a whole pixel in each integer."""
        n, channels, height, width = images.shape
        pad, size = self.padding, next(size for size in PIXELS if size >= channels)
        padded = images.new_zeros(n, height + 2 * pad, width + 2 * pad, size)
        padded[:, pad : pad + height, pad : pad + width, :channels] = images.permute(0, 2, 3, 1)
        self.places(images.device)
        return padded.view(PIXELS[size]).squeeze(-1)

    def gather(self, store: Tensor, index: Tensor, view: Tensor) -> Tensor:
        channels, height, width = self.shape
        rows, columns = self.places(store.device)
        first = (index * (store.shape[1] * store.shape[2])).unsqueeze(1) + rows.index_select(0, view)
        places = first.unsqueeze(2) + columns.index_select(0, view).unsqueeze(1)
        pixels = store.view(-1).index_select(0, places.view(-1)).view(torch.uint8)
        pixels = pixels.view(len(index), height, width, store.element_size())
        return pixels[..., :channels].permute(0, 3, 1, 2)

    def places(self, device: torch.device) -> Places:
        """The positions of the pixels of each view; made once for a device."""
        return crop_places(self.shape[1], self.shape[2], self.padding, self.flip, device)


PIXELS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer that holds a pixel of that many bytes."""


class Places(NamedTuple):
    """Positions of the pixels of view v in a padded image read row by row: `rows[v, y] + columns[v, x]`.
    rows: (V, H) int64. columns: (V, W) int64.
    """

    rows: Tensor
    columns: Tensor


@functools.lru_cache(maxsize=32)
def crop_places(height: int, width: int, padding: int, flip: bool, device: torch.device) -> Places:
    """The places of every crop, mirrored or not, in the order of their codes."""
    starts, ways = 2 * padding + 1, 1 + flip
    with torch.inference_mode(False):
        code = torch.arange(starts * starts * ways, device=device)
        mirrored = (code % ways).unsqueeze(1) == 1
        dx, dy = code // ways % starts, code // ways // starts
        across = torch.arange(width, device=device)
        columns = dx.unsqueeze(1) + torch.where(mirrored, width - 1 - across, across)
        rows = (dy.unsqueeze(1) + torch.arange(height, device=device)) * (width + 2 * padding)
    return Places(rows, columns)


class Moved(Views, ABC):
    """Views that are drawn as six numbers, the rows of the matrix (2, 3) of `affine_grid`; bilinear.

    outside: what lies around an image, as `grid_sample` has it. shape: of a view.
    """

    count = None
    outside: str
    shape: Shape

    def store(self, images: Tensor) -> Tensor:
        return images.contiguous()

    def gather(self, store: Tensor, index: Tensor, view: Tensor) -> Tensor:
        images = store.index_select(0, index).float()
        grid = functional.affine_grid(view.view(-1, 2, 3), [len(view), *self.shape], align_corners=False)
        moved: Tensor = functional.grid_sample(images, grid, padding_mode=self.outside, align_corners=False)
        return moved


class Affine(Moved):
    """Turned, scaled, sheared and shifted at random, with zeros outside the image."""

    outside = "zeros"

    def __init__(
        self, shape: Shape, degrees: float = 15, scale: float = 0.1, shear: float = 0.1, shift: float = 1
    ) -> None:
        """The largest amounts, either way. degrees: of rotation. scale, shear: as fractions of the size.
        shift: in pixels, along both axes. Draws are uniform and independent. Raises KdrunError.
        """
        limits = {"degrees": (degrees, 180.0), "scale": (scale, 0.9), "shear": (shear, 2.0)}
        for key, (value, most) in {**limits, "shift": (shift, float(max(shape[1:])))}.items():
            if not 0 <= value <= most:
                raise KdrunError(f"dataset.views.{key}", value, f"must be a number from 0 to {most:g}")
        self.shape = shape
        self.most = torch.tensor([math.radians(degrees), scale, shear, shift, shift])

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        amounts = (torch.rand(n, 5, generator=generator) * 2 - 1) * self.most
        return mapping(amounts, self.shape[1], self.shape[2])


def mapping(amounts: Tensor, height: int, width: int) -> Tensor:
    """The matrices that say for each place in the new image where it was in the old one.

    amounts: (N, 5): rotation in radians (counter-clockwise as seen), scale - 1, shear (x grows by that much
    of y), shift to the right and down in pixels; sheared, turned, scaled, then shifted, about the centre.
    Returns (N, 6): the rows of a (2, 3) matrix over coordinates of -1 to 1, as `affine_grid` takes them.
    """
    angle, scale, shear, right, down = amounts.unbind(1)
    cosine, sine, size = angle.cos(), angle.sin(), 1 + scale
    # (x, y) old = (1 / size) Shear^-1 Turn^-1 ((x, y) new - shift), with y pointing down.
    yx, yy = sine / size, cosine / size
    xx, xy = cosine / size - shear * yx, -sine / size - shear * yy
    x, y = -(xx * right + xy * down), -(yx * right + yy * down)
    return torch.stack([xx, xy * height / width, x * 2 / width, yx * width / height, yy, y * 2 / height], 1)


TRIES = 10
"""How many boxes are drawn for a view until one fits into the image, as in torchvision."""


class ResizedCrop(Moved):
    """A box of random area and shape at a random place, resized, mirrored or not (Szegedy et al. 2015):
    torchvision's RandomResizedCrop and flip, but for boxes that do not end at whole pixels. Images may be
    larger than the views, whose shape is the one given; bilinear.
    """

    outside = "border"

    def __init__(
        self,
        shape: Shape,
        area: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: bool = True,
    ) -> None:
        """area: smallest and largest area of the box, as fractions of the image. ratio: smallest and largest
        width by height. flip: whether half of the views are mirrored. Raises KdrunError.
        """
        self.area, self.ratio = _limits("area", area, 1.0), _limits("ratio", ratio, math.inf)
        self.shape, self.flip = shape, flip

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        size = self._sizes(torch.rand(n, TRIES, 2, generator=generator))
        place = torch.rand(n, 2, generator=generator) * (1 - size)
        mirrored = torch.rand(n, generator=generator) < (0.5 if self.flip else 0.0)
        return boxes(place, size, mirrored)

    def _sizes(self, draws: Tensor) -> Tensor:
        """From draws (N, TRIES, 2) in [0, 1) to widths and heights (N, 2), as fractions of the image's."""
        low, high = (math.log(limit) for limit in self.ratio)
        area = self.area[0] + draws[..., 0] * (self.area[1] - self.area[0])
        ratio = torch.exp(low + draws[..., 1] * (high - low)) * self.shape[1] / self.shape[2]
        size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], -1)
        fits = (size <= 1).all(-1)
        first = fits.int().argmax(1)
        chosen = size[torch.arange(len(size)), first]
        # If no box fitted: the largest of the last one's shape.
        return torch.where(fits.any(1, keepdim=True), chosen, chosen / chosen.amax(1, keepdim=True))


def boxes(place: Tensor, size: Tensor, mirrored: Tensor) -> Tensor:
    """The matrices that say for each place in a view where it is in the image, as `affine_grid` takes them,
    (N, 6). place: (N, 2), left and top end of the box; size: (N, 2), width and height; as fractions.
    """
    (x, y), (width, height) = (place * 2 + size - 1).unbind(1), size.unbind(1)
    none = torch.zeros_like(x)
    return torch.stack([torch.where(mirrored, -width, width), none, x, none, height, y], 1)


def _limits(key: str, limits: Sequence[float], most: float) -> tuple[float, float]:
    """Two numbers above 0 in rising order."""
    if len(limits) != 2 or not 0 < limits[0] <= limits[1] <= most:
        above = "above 0" if most == math.inf else f"above 0 and up to {most:g}"
        problem = f"must be a smallest and a largest number {above}"
        raise KdrunError(f"dataset.views.{key}", limits, problem)
    return float(limits[0]), float(limits[1])


def none(shape: Shape) -> Views:
    """Every image as it is."""
    return Plain()


NAMES = {"none": none, "crop_flip": CropFlip, "affine": Affine, "resized_crop": ResizedCrop}
LARGER = ("resized_crop",)
"""Views that are cut out of larger images if the source has them."""


def make_views(spec: Mapping[str, Any], image_shape: Shape) -> Views:
    """The views of `dataset.views`: `name`, and arguments, of which those of the named views are used: the
    keys of others are ignored, so that `dataset.views.name=none` alone switches augmentation off. Raises
    KdrunError.
    """
    name = spec.get("name")
    if not isinstance(name, str) or name not in NAMES:
        raise KdrunError("dataset.views.name", name, "no such views", NAMES)
    known = {views: _arguments(make) for views, make in NAMES.items()}
    elsewhere = {"name", *(key for keys in known.values() for key in keys)} - set(known[name])
    used = {key: value for key, value in spec.items() if key not in elsewhere}
    lookup.check_arguments(f"view {name}", known[name], used, "dataset.views", sorted(elsewhere))
    return NAMES[name](image_shape, **used)


def _arguments(make: Callable[..., Views]) -> lookup.Parameters:
    """All but the first, the shape of the images."""
    _, *own = lookup.parameters(make).items()
    return dict(own)
