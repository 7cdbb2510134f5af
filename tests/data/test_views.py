"""Views: the finite ones equal torchvision bit for bit, the continuous ones do what their amounts say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdrun.data.resident import Normal, Resident
from kdrun.data.views import Affine, CropFlip, Plain, ResizedCrop, boxes, make_views, mapping
from kdrun.errors import KdrunError
from kdrun.types import Rows

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, shape, most=256):
    return torch.randint(most, (n, *shape), dtype=torch.uint8, generator=draw())


def by_torchvision(image, dy, dx, mirrored, padding, mean, std):
    """One image through torchvision's own functions, in the order of its usual training transforms."""
    from PIL import Image
    from torchvision.transforms import functional as tv

    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels if len(image) == 3 else pixels[..., 0]))
    picture = tv.crop(tv.pad(picture, [padding]), dy, dx, image.shape[1], image.shape[2])
    picture = tv.hflip(picture) if mirrored else picture
    return tv.normalize(tv.to_tensor(picture), list(mean), list(std))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("shape", "padding", "flip"),
    [((3, 32, 32), 4, True), ((3, 6, 9), 2, False), ((1, 28, 28), 2, False), ((1, 5, 7), 1, True)],
)
def test_every_view_of_crop_flip_equals_torchvision(shape, padding, flip, device):
    views = CropFlip(shape, padding, flip)
    ways = 1 + flip
    assert views.count == (2 * padding + 1) ** 2 * ways
    images, code = pictures(3, shape), torch.arange(views.count)
    index = torch.arange(views.count) % 3
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    resident = Resident(images, views, Normal(mean, std, 255, device))
    found = resident(Rows(index.to(device), code.to(device))).cpu()
    for v, i in zip(code.tolist(), index.tolist(), strict=True):
        dy, dx = divmod(v // ways, 2 * padding + 1)
        expected = by_torchvision(images[i], dy, dx, flip and v % 2, padding, mean, std)
        assert found[v].equal(expected), f"view {v}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_images_equal_torchvision(channels, device):
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, channels, 1, 1)
    mean, std = MEAN[:channels], STD[:channels]
    resident = Resident(images, Plain(), Normal(mean, std, 255, device))
    found = resident(Rows(torch.tensor([1], device=device), torch.tensor([0], device=device))).cpu()
    assert len(resident) == 2
    assert found[0].equal(by_torchvision(images[1], 0, 0, False, 0, mean, std))


def test_normalisation_is_by_white_then_mean_then_std():
    images = pictures(4, (1, 8, 8), most=17)
    resident = Resident(images, Plain(), Normal((0.25,), (0.5,), 16, "cpu"))
    found = resident(Rows(torch.arange(4), torch.zeros(4, dtype=torch.int64)))
    assert found.equal((images / 16 - 0.25) / 0.5)


@pytest.mark.parametrize("channels", [2, 4, 8])
def test_other_numbers_of_channels(channels):
    images = pictures(2, (channels, 4, 4))
    views = CropFlip((channels, 4, 4), 1, False)
    found = views.gather(views.store(images), torch.tensor([1, 0]), torch.tensor([4, 4]))
    assert found.equal(images[[1, 0]])
    with pytest.raises(KdrunError, match="8 channels at most, not 9"):
        CropFlip((9, 4, 4))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["none", "crop_flip", "affine", "resized_crop"])
def test_batches_have_channels_last_strides(name, channels, device):
    views = make_views({"name": name}, (channels, 8, 10))
    resident = Resident(pictures(5, (channels, 8, 10)), views, Normal([0.5], [0.5], 255, device))
    images = resident(Rows(torch.tensor([4, 0, 4], device=device), views.draw(draw(), 3).to(device)))
    assert images.dtype == torch.float32
    assert images.shape == (3, channels, 8, 10)
    assert images.stride() == (80 * channels, 1, 10 * channels, channels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["none", "crop_flip", "affine", "resized_crop"])
def test_a_batch_can_be_captured(name):
    """No copy to the host: the call lies in a CUDA graph, and a replay gives what an eager call gives."""
    views = make_views({"name": name}, (3, 32, 32))
    resident = Resident(pictures(50, (3, 32, 32)), views, Normal(MEAN, STD, 255, "cuda"))
    rows = [Rows(torch.randint(50, (16,), generator=draw(s)), views.draw(draw(s), 16)) for s in range(2)]
    first, second = (Rows(r.index.cuda(), r.view.cuda()) for r in rows)
    expected = resident(second)
    static, graph = Rows(first.index.clone(), first.view.clone()), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = resident(static)
    static.index.copy_(second.index)
    static.view.copy_(second.view)
    graph.replay()
    assert found.equal(expected)


def test_the_store_is_not_changed_by_a_call():
    for name in ("none", "crop_flip", "affine", "resized_crop"):
        views = make_views({"name": name}, (3, 8, 8))
        resident = Resident(pictures(5, (3, 8, 8)), views, Normal(MEAN, STD, 255, "cpu"))
        rows = Rows(torch.arange(5), views.draw(draw(), 5))
        assert resident(rows).equal(resident(rows))


def test_draws_of_a_finite_set_are_uniform_and_seeded():
    views = CropFlip((3, 32, 32), 4, True)
    codes = views.draw(draw(), 162 * 400)
    counts = codes.bincount(minlength=162).float()
    assert len(counts) == 162
    chi_squared = float(((counts - 400) ** 2 / 400).sum())
    assert 110 < chi_squared < 225  # 161 degrees of freedom: beyond both ends once in a thousand seeds
    assert codes.equal(views.draw(draw(), 162 * 400))
    assert Plain().draw(draw(), 7).tolist() == [0] * 7


def test_draws_of_affine_are_uniform_seeded_and_on_the_cpu():
    views = Affine((1, 8, 8), degrees=0, scale=0, shear=0, shift=2)
    view = views.draw(draw(), 20_000)
    assert view.shape == (20_000, 6)
    assert view.dtype == torch.float32
    assert view.device.type == "cpu"
    for column in (2, 5):  # a shift of s pixels moves by 2 s / 8 of the range -1 to 1, the other way
        shift = -view[:, column] * 4
        assert shift.abs().max() <= 2
        assert shift.histc(10, -2, 2).sub(2000).abs().max() < 200
    turned = Affine((1, 8, 8), degrees=15, scale=0.1, shear=0, shift=0).draw(draw(), 20_000)
    size = 1 / (turned[:, 0] ** 2 + turned[:, 3] ** 2).sqrt()
    angle = torch.atan2(turned[:, 3], turned[:, 0]).rad2deg()
    assert (float(size.min()), float(size.max())) == pytest.approx((0.9, 1.1), abs=1e-3)
    assert (float(angle.min()), float(angle.max())) == pytest.approx((-15, 15), abs=0.05)
    assert views.draw(draw(1), 5).equal(views.draw(draw(1), 5))


def moved(images, **amounts):
    """The images under one mapping; amounts as `mapping` takes them."""
    order = ("angle", "scale", "shear", "right", "down")
    row = torch.tensor([[float(amounts.get(key, 0)) for key in order]]).repeat(len(images), 1)
    views = Affine(tuple(images.shape[1:]))
    view = mapping(row, images.shape[2], images.shape[3])
    return views.gather(views.store(images), torch.arange(len(images)), view)


def close(found, expected):
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 6, 9)])
def test_affine_without_amounts_is_the_image(shape):
    images = pictures(3, shape)
    close(moved(images), images)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 9)])
def test_affine_shift_by_whole_pixels_moves_zeros_in(shape):
    images = pictures(3, shape)
    expected = torch.zeros_like(images)
    expected[:, :, :-1, 2:] = images[:, :, 1:, :-2]
    close(moved(images, right=2, down=-1), expected)


def test_affine_turns_counter_clockwise():
    images = pictures(3, (1, 8, 8))
    close(moved(images, angle=math.pi / 2), images.rot90(1, (2, 3)))


def test_affine_scales_about_the_centre():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[:, :, 3:5, 3:5] = 100
    larger = moved(image, scale=1.0)
    assert float(larger.sum()) == pytest.approx(4 * 400, rel=0.01)
    assert larger.flip(2, 3).allclose(larger, atol=1e-3)


def test_affine_shears_rows_by_their_height():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[:, :, :, 4] = 100
    close(moved(image, shear=1.0)[0, 0], 100 * torch.eye(9))


def test_affine_is_sheared_then_turned_then_shifted():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[:, :, :, 4] = 100
    expected = torch.zeros(9, 9)
    expected[:, 1:] = (100 * torch.eye(9)).rot90(1)[:, :-1]
    close(moved(image, shear=1.0, angle=math.pi / 2, right=1)[0, 0], expected)


def cut(images, shape, place, size, mirrored=False):
    """The same box out of each image, as fractions."""
    n = len(images)
    view = boxes(torch.tensor([place] * n), torch.tensor([size] * n), torch.tensor([mirrored] * n))
    views = ResizedCrop(shape)
    return views.gather(views.store(images), torch.arange(n), view)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_resized_crop_equals_torchvisions_inside_the_box(mirrored):
    """At the border of its box torchvision sees no more of the image; we do."""
    from torchvision.transforms import functional as tv

    images = pictures(2, (3, 40, 48))
    found = cut(images, (3, 24, 24), (12 / 48, 5 / 40), (16 / 48, 20 / 40), mirrored)
    expected = tv.resized_crop(images.float(), 5, 12, 20, 16, [24, 24], antialias=False)
    expected = expected.flip(3) if mirrored else expected
    assert found.shape == (2, 3, 24, 24)
    close(found[:, :, 2:-2, 2:-2], expected[:, :, 2:-2, 2:-2])


def test_the_whole_image_as_a_resized_crop_is_the_image():
    images = pictures(2, (3, 6, 9))
    close(cut(images, (3, 6, 9), (0.0, 0.0), (1.0, 1.0)), images)
    close(cut(images, (3, 6, 9), (0.0, 0.0), (1.0, 1.0), True), images.flip(3))


def test_draws_of_resized_crop_have_the_area_shape_and_place_that_are_asked_for():
    view = ResizedCrop((3, 8, 16), (0.1, 0.2), (0.5, 2.0)).draw(draw(), 20_000)
    assert view.shape == (20_000, 6) and view.dtype == torch.float32 and view.device.type == "cpu"
    width, height, x, y = view[:, 0].abs(), view[:, 4], view[:, 2], view[:, 5]
    area, ratio = width * height, width / height * 2
    assert area.min() > 0.1 - 1e-6 and area.max() < 0.2 + 1e-6
    assert ratio.min() > 0.5 - 1e-5 and ratio.max() < 2 + 1e-5
    assert abs(float(area.mean()) - 0.15) < 0.002
    assert abs(float(ratio.log().mean())) < 0.01
    assert float((x.abs() + width).max()) <= 1 + 1e-6 and float((y.abs() + height).max()) <= 1 + 1e-6
    assert abs(float((view[:, 0] < 0).float().mean()) - 0.5) < 0.02
    assert (ResizedCrop((3, 8, 8), flip=False).draw(draw(), 1000)[:, 0] > 0).all()
    assert ResizedCrop((3, 8, 8)).draw(draw(), 9).equal(ResizedCrop((3, 8, 8)).draw(draw(), 9))


def test_a_box_that_never_fits_is_the_largest_of_its_shape():
    view = ResizedCrop((3, 8, 8), (1.0, 1.0), (2.0, 2.0), flip=False).draw(draw(), 50)
    assert view[:, 0].allclose(torch.ones(50)) and view[:, 4].allclose(torch.full((50,), 0.5))


def test_training_on_views_of_larger_images():
    views = make_views({"name": "resized_crop"}, (3, 16, 16))
    resident = Resident(pictures(5, (3, 20, 20)), views, Normal(MEAN, STD, 255, "cpu"))
    assert resident(Rows(torch.arange(4), views.draw(draw(), 4))).shape == (4, 3, 16, 16)


def test_make_views_takes_its_own_keys_and_passes_over_those_of_other_views():
    spec = {"padding": 1, "flip": False, "degrees": 5, "scale": 0, "shear": 0, "shift": 2}
    assert isinstance(make_views({"name": "none", **spec}, (1, 8, 8)), Plain)
    crop = make_views({"name": "crop_flip", **spec}, (1, 8, 8))
    assert crop.count == 9
    assert make_views({"name": "affine", **spec}, (1, 8, 8)).count is None


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"name": "crop"},
            r"dataset.views.name=crop: no such views. Choices: none, crop_flip, affine, resized_crop",
        ),
        ({}, "dataset.views.name: no such views"),
        (
            {"name": "affine", "degree": 3},
            "dataset.views.degree: view affine has no such argument. Nearest: degrees",
        ),
        ({"name": "affine", "degrees": 200}, "dataset.views.degrees=200: must be a number from 0 to 180"),
        ({"name": "affine", "scale": 1.0}, "dataset.views.scale"),
        ({"name": "affine", "shear": "a"}, "dataset.views.shear"),
        ({"name": "affine", "shift": -1}, "dataset.views.shift"),
        (
            {"name": "resized_crop", "area": [0.5, 0.2]},
            r"dataset.views.area=\[0.5, 0.2\]: must be a smallest",
        ),
        ({"name": "resized_crop", "area": [0, 1]}, "dataset.views.area.* above 0 and up to 1"),
        ({"name": "resized_crop", "area": 0.5}, "dataset.views.area=0.5"),
        ({"name": "resized_crop", "ratio": [1, "a"]}, "dataset.views.ratio"),
        ({"name": "resized_crop", "flip": None}, "dataset.views.flip"),
        ({"name": "crop_flip", "padding": -1}, "dataset.views.padding"),
        ({"name": "crop_flip", "padding": 1.5}, "dataset.views.padding"),
        ({"name": "crop_flip", "flip": 1}, "dataset.views.flip=1: true or false is needed"),
    ],
)
def test_wrong_views_are_refused(spec, problem):
    with pytest.raises(KdrunError, match=problem):
        make_views(spec, (1, 8, 8))
