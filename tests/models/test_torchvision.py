"""Torchvision's models by name: stems, channels, sizes, stages, heads."""

from __future__ import annotations

import urllib.error
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.build import Built, build
from kdrun.models.survey import anatomy
from kdrun.models.taps import Tapped, probe
from tests.models.conf import node, torchvision_node
from tests.sampled import sampled

SMALL_STEM = "stem for small images (3x3, stride 1, no pooling)"
ONE_CHANNEL = "first convolution reads 1 channel"

# name: side on 8x8x1 and on 32x32x3, has a stem for small images, channels of the stages, embedding
SAMPLE: dict[str, tuple[int, int, bool, list[int], int]] = {
    "resnet18": (8, 32, True, [64, 64, 128, 256, 512], 512),
    "mobilenet_v2": (8, 32, True, [32, 16, 24, 32, 96, 320], 1280),
    "vgg11": (32, 32, False, [64, 128, 256, 512, 512], 4096),
    "densenet121": (8, 32, True, [64, 256, 512, 1024, 1024], 1024),
    "shufflenet_v2_x0_5": (8, 32, True, [24, 48, 96, 192], 1024),
    "efficientnet_b0": (8, 32, True, [32, 16, 24, 40, 112, 320], 1280),
    "vit_b_16": (224, 224, False, [768] * 5, 768),
    "convnext_tiny": (32, 32, False, [96, 96, 192, 384, 768], 768),
    "swin_t": (8, 32, False, [96, 96, 192, 384, 768], 768),
    "squeezenet1_0": (32, 32, False, [96, 256, 512, 512], 512),
    "alexnet": (64, 64, False, [64, 192, 256], 4096),
}


@cache
def outlined(name: str, shape: tuple[int, int, int], stem: str = "auto") -> Built:
    """As `made`, without values: large networks take long to draw."""
    with torch.device("meta"):
        return build({**torchvision_node(name), "stem": stem}, 10, shape, "auto", seed=0)


@cache
def made(name: str, shape: tuple[int, int, int], stem: str = "auto") -> Built:
    return build({**torchvision_node(name), "stem": stem}, 10, shape, "auto", seed=0)


@pytest.mark.parametrize("name", sampled(SAMPLE, 3))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=["8x8x1", "32x32x3"])
def test_small_images(name: str, shape: tuple[int, int, int]) -> None:
    small, larger, has_stem, channels, embedding = SAMPLE[name]
    built, side = outlined(name, shape), small if shape[1] == 8 else larger
    assert built.image_size == side
    assert (SMALL_STEM in built.notes) == has_stem
    assert (ONE_CHANNEL in built.notes) == (shape[0] == 1)
    enlarged = (
        f"images enlarged {shape[1]} -> {side} for {name} ({(side / shape[1]) ** 2:.3g} times the pixels)"
    )
    assert (enlarged in built.notes) == (side != shape[1])
    shapes = probe(built.model, shape)
    sizes = [shapes.layer(f"stage:{position}") for position in range(shapes.stages)]
    assert [size[0] for size in sizes] == channels and {len(size) for size in sizes} == {3}
    assert shapes.layer("embedding") == (embedding,)
    assert shapes.layer("logits") == (10,)
    assert not any(getattr(module, "inplace", False) for module in built.model.modules())


def test_stages_do_not_depend_on_the_size() -> None:
    for name in ("mobilenet_v2", "densenet121", "shufflenet_v2_x0_5"):
        paths = [anatomy(outlined(name, shape).model).stages for shape in ((1, 8, 8), (3, 32, 32))]
        assert paths[0] == paths[1]


def test_transformer_stages() -> None:
    stages = anatomy(outlined("vit_b_16", (3, 32, 32)).model).stages
    assert stages == ("conv_proj", *(f"encoder.layers.encoder_layer_{n}:14x14" for n in (2, 5, 8, 11)))
    tokens = "encoder.layers.encoder_layer_11"
    shapes = probe(outlined("vit_b_16", (3, 32, 32)).model, (3, 32, 32), [tokens])
    assert shapes.layer("stage:-1") == (768, 14, 14)
    assert shapes.layer(tokens) == (197, 768)
    assert probe(outlined("swin_t", (3, 32, 32)).model, (3, 32, 32)).layer("stage:1") == (96, 8, 8)


def test_resnet_taps_and_zero_branches() -> None:
    model, images = made("resnet18", (3, 32, 32)).model.eval(), torch.rand(2, 3, 32, 32)
    assert not model.layer1[0].bn2.weight.any()
    tapped = Tapped(model, ["stages", "stage:-1@pre", "stage:1@pre", "layer1.0.bn2", "layer1.0.bn1"])
    said = tapped(images)
    tapped.close()
    stem = torch.relu(model.bn1(model.conv1(images)))
    assert torch.equal(said.layer("stage:0"), stem)
    assert torch.equal(said.layer("layer1.0.bn1"), model.layer1[0].bn1(model.layer1[0].conv1(stem)))
    assert not said.layer("layer1.0.bn2").any()  # not what the block adds to it in place
    for position in (1, -1):
        assert torch.equal(said.layer(f"stage:{position}"), said.layer(f"stage:{position}@pre").relu())


def test_overwritten_features_of_densenet() -> None:
    model, images = made("densenet121", (3, 32, 32)).model.eval(), torch.rand(1, 3, 32, 32)
    tapped = Tapped(model, ["features.norm5"])
    assert tapped(images).layer("features.norm5").min() < 0
    tapped.close()


def test_stem_choices() -> None:
    assert outlined("resnet18", (3, 32, 32), "imagenet").notes == ()
    assert outlined("resnet18", (3, 32, 32), "imagenet").model.conv1.kernel_size == (7, 7)
    large = outlined("resnet18", (3, 96, 96))
    assert large.notes == () and isinstance(large.model.maxpool, nn.MaxPool2d)
    chosen = outlined("resnet18", (3, 96, 96), "cifar")
    assert chosen.notes == (SMALL_STEM,) and chosen.model.conv1.kernel_size == (3, 3)
    with pytest.raises(KdrunError, match=r"model\.stem=cifar: vgg11 has no stem"):
        outlined("vgg11", (3, 32, 32), "cifar")


def test_resnet50_takes_8x8_natively() -> None:
    built = outlined("resnet50", (1, 8, 8))
    assert built.image_size == 8
    assert probe(built.model, (1, 8, 8)).layer("stage:-1") == (2048, 1, 1)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "mnasnet0_5"])
def test_training_on_digits(name: str) -> None:
    model = made(name, (1, 8, 8)).model.train()
    logits = model(torch.rand(3, 1, 8, 8))
    logits.sum().backward()
    assert logits.shape == (3, 10)


def test_auxiliary_heads_are_off() -> None:
    model = outlined("googlenet", (3, 32, 32)).model.train()
    assert isinstance(model(torch.rand(2, 3, 32, 32, device="meta")), torch.Tensor)


def test_unknown_name() -> None:
    with pytest.raises(KdrunError, match=r"model\.name=resnet19: .*Nearest: resnet"):
        made("resnet19", (3, 32, 32))


def pretrained(
    monkeypatch: pytest.MonkeyPatch, name: str, classes: int, shape: Any = (3, 64, 64), **more: Any
) -> Built:
    """As if downloaded: weights of torchvision's own, all distinct from what a fresh model has."""
    from torchvision import models

    torch.manual_seed(77)
    state = models.get_model(name).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    built = build({**node(name), "pretrained": True, **more}, classes, shape, "auto", seed=0)
    own = built.model.state_dict()
    same = {
        key
        for key in own
        if key in state and own[key].shape == state[key].shape and torch.equal(own[key], state[key])
    }
    assert len(same) >= len(own) - 6
    return built


def test_pretrained_with_a_new_head(monkeypatch: pytest.MonkeyPatch) -> None:
    built = pretrained(monkeypatch, "resnet18", 10)
    assert built.notes == ("new head: 1000 -> 10 classes, untrained",)
    assert built.head_is_new
    assert built.model.fc.out_features == 10
    assert built.model.conv1.kernel_size == (7, 7)  # small images do not cost a pretrained stem


def test_pretrained_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    built = pretrained(monkeypatch, "resnet18", 1000)
    assert built.notes == () and not built.head_is_new
    grey = pretrained(monkeypatch, "resnet18", 1000, (1, 64, 64))
    assert grey.notes == (ONE_CHANNEL,) and not grey.head_is_new
    image = torch.rand(1, 1, 64, 64)
    rgb = built.model.eval()(image.expand(1, 3, 64, 64))
    assert torch.allclose(grey.model.eval()(image), rgb, atol=1e-4 * rgb.abs().max().item())


def test_pretrained_with_a_new_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretrained(monkeypatch, "resnet18", 1000, stem="cifar").head_is_new
    assert not pretrained(monkeypatch, "shufflenet_v2_x0_5", 1000, stem="cifar").head_is_new  # 3x3 as before
    squeezed = pretrained(monkeypatch, "squeezenet1_0", 7)
    assert squeezed.head_is_new and probe(squeezed.model, (3, 64, 64)).layer("logits") == (7,)


def test_pretrained_inception_has_one_head(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    state = models.googlenet(init_weights=False).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    built = build({**node("googlenet"), "pretrained": True}, 10, (3, 32, 32), "auto", seed=0)
    assert built.model.train()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_pretrained_weights_get_images_as_they_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
    plain = pretrained(monkeypatch, "resnet18", 1000)
    other = pretrained(
        monkeypatch, "resnet18", 1000, normalisation=(tuple(mean.tolist()), tuple(std.tolist()))
    )
    assert other.notes == (
        "images normalised as its weights want it (mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225)",
    )
    assert not other.head_is_new
    pixels, own = (
        torch.rand(2, 3, 64, 64),
        (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    )
    first, second = ((pixels - m.view(3, 1, 1)) / s.view(3, 1, 1) for m, s in ((mean, std), tuple(own)))
    expected, found = (m.model.eval()(x).detach() for m, x in ((plain, second), (other, first)))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    same = pretrained(
        monkeypatch, "resnet18", 1000, normalisation=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    assert same.notes == () and "input_scale" not in same.model.state_dict()
    grey = pretrained(monkeypatch, "resnet18", 1000, (1, 64, 64), normalisation=((0.1,), (0.3,)))
    assert grey.notes[0] == ONE_CHANNEL and grey.notes[1].endswith("(mean 0.449; std 0.226)")


def test_weights_bring_their_normalisation_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrun.models.weights import load_into

    tuned = pretrained(monkeypatch, "resnet18", 10, normalisation=((0.5,) * 3, (0.5,) * 3)).model.eval()
    blank = build(node("resnet18", stem="imagenet"), 10, (3, 64, 64), "auto", seed=0).model.eval()
    load_into(blank, tuned.state_dict(), "student.checkpoint", "file")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(blank(images), tuned(images))
    load_into(blank, tuned.state_dict(), "student.checkpoint", "file")  # once is enough
    assert torch.equal(blank(images), tuned(images))


def test_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(KdrunError) as raised:
        build({**node("resnet18"), "pretrained": True, "role": "teacher"}, 10, (3, 32, 32), "auto", seed=0)
    text = str(raised.value)
    assert text.startswith("teacher.pretrained=true: ") and "no route to host" in text
    assert "checkpoints/resnet18-" in text and "https://" in text and "\n" not in text


def test_weights_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of exactly those weights is asked for; a name that the model lacks is one line."""
    asked: list[str] = []

    def fail(url: str, *_: Any, **__: Any) -> Any:
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    for value in (True, "IMAGENET1K_V1", "IMAGENET1K_V2"):
        with pytest.raises(KdrunError):
            build({**node("resnet50"), "pretrained": value}, 10, (3, 64, 64), "auto", seed=0)
    present, first, second = asked
    assert present == second != first
    with pytest.raises(
        KdrunError, match=r"pretrained=V3: there are no such weights.*IMAGENET1K_V1, IMAGENET"
    ):
        build({**node("resnet50"), "pretrained": "V3"}, 10, (3, 64, 64), "auto", seed=0)
