"""Timm's models by name: sizes, stems, stages, pretrained weights with their own normalisation."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.models.build import Built, build
from kdrun.models.taps import probe
from tests.config.composed import composed

with warnings.catch_warnings():  # what it warns of while it is imported is its own business
    warnings.simplefilter("ignore")
    timm = pytest.importorskip("timm")

SMALL_STEM = "stem for small images (3x3, stride 1, no pooling)"

# name: side on 32x32, has a stem for small images, channels of the stages, embedding
SAMPLE: dict[str, tuple[int, bool, list[int], int]] = {
    "resnet18": (32, True, [64, 64, 128, 256, 512], 512),
    "resnet18d": (32, False, [64, 64, 128, 256, 512], 512),
    "efficientnet_b0": (32, True, [32, 16, 24, 40, 112, 320], 1280),
    "mobilenetv3_small_100": (32, True, [16, 16, 24, 48, 576], 1024),
    "regnety_002": (32, True, [32, 24, 56, 152, 368], 368),
    "convnext_atto": (32, False, [40, 40, 80, 160, 320], 320),
    "vit_tiny_patch16_224": (224, False, [192] * 5, 192),
    "swin_tiny_patch4_window7_224": (224, False, [96, 96, 192, 384, 768], 768),
}


def node(name: str, **more: Any) -> dict[str, Any]:
    return {"name": f"timm/{name}", "family": "timm", "args": {}, **more}


@pytest.mark.parametrize("name", SAMPLE)
def test_small_images(name: str) -> None:
    side, has_stem, channels, embedding = SAMPLE[name]
    with torch.device("meta"):
        built = build(node(name), 10, (1, 32, 32), "auto", seed=0)
    assert built.image_size == side
    assert (SMALL_STEM in built.notes) == has_stem
    shapes = probe(built.model, (1, 32, 32))
    sizes = [shapes.layer(f"stage:{position}") for position in range(shapes.stages)]
    assert [size[0] for size in sizes] == channels and {len(size) for size in sizes} == {3}
    assert shapes.layer("embedding") == (embedding,)
    assert shapes.layer("logits") == (10,)


def test_weights_are_a_function_of_the_seed() -> None:
    first, second, other = (build(node("resnet18"), 4, (3, 32, 32), "auto", seed=s).model for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    first.train()(torch.rand(2, 3, 32, 32)).sum().backward()


def test_stems() -> None:
    with torch.device("meta"):
        assert build(node("resnet18", stem="imagenet"), 10, (3, 32, 32), "auto", seed=0).notes == ()
        assert build(node("resnet18", stem="cifar"), 10, (3, 96, 96), "auto", seed=0).notes == (SMALL_STEM,)
        with pytest.raises(KdrunError, match=r"model\.stem=cifar: timm/resnet18d has no stem"):
            build(node("resnet18d", stem="cifar"), 10, (3, 32, 32), "auto", seed=0)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet19", r"student\.name=timm/resnet19: timm has no such model\. Nearest: .*timm/resnet"),
        (
            "resnet18.none",
            r"student\.name=timm/resnet18\.none: resnet18 has no such weights.*resnet18\.a1_in1k",
        ),
    ],
)
def test_unknown_names(name: str, problem: str) -> None:
    with pytest.raises(KdrunError, match=problem):
        build(node(name, role="student"), 10, (3, 32, 32), "auto", seed=0)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.models.timm.timm_names", tuple)
    with pytest.raises(KdrunError, match=r"timm is not installed: pip install 'kdrun\[timm\]'"):
        build(node("resnet18", role="student"), 10, (3, 32, 32), "auto", seed=0)


def pretrained(monkeypatch: pytest.MonkeyPatch, name: str, classes: int, **more: Any) -> Built:
    """As if downloaded: weights of timm's own, distinct from what a fresh model has."""
    torch.manual_seed(77)
    state = timm.create_model(name).state_dict()
    monkeypatch.setattr("timm.models._builder.has_hf_hub", lambda necessary=False: True)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(state))
    built = build(node(name, pretrained=True, **more), classes, (3, 64, 64), "auto", seed=0)
    own = built.model.state_dict()
    changed = {key for key in own if key not in state or not torch.equal(own[key], state[key])}
    assert {key for key in changed if not key.startswith(("input_", "fc."))} == set()
    return built


def test_pretrained_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    built = pretrained(monkeypatch, "resnet18.a1_in1k", 1000)
    assert built.notes == () and not built.head_is_new


def test_pretrained_with_a_new_head_and_its_own_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    built = pretrained(monkeypatch, "resnet18", 10, normalisation=((0.5,) * 3, (0.25,) * 3))
    assert built.notes == (
        "images normalised as its weights want it (mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225)",
        "new head: 1000 -> 10 classes, untrained",
    )
    assert built.head_is_new and built.model.conv1.kernel_size == (7, 7)
    plain = pretrained(
        monkeypatch, "resnet18", 10, normalisation=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    assert plain.notes == ("new head: 1000 -> 10 classes, untrained",)
    pixels = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found, expected = built.model.eval()((pixels - 0.5) / 0.25), plain.model.eval()((pixels - mean) / std)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.detach().abs().max()))


def test_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("timm.models._builder.has_hf_hub", lambda necessary=False: True)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(KdrunError) as raised:
        build(node("resnet18", pretrained=True, role="teacher"), 10, (3, 32, 32), "auto", seed=0)
    assert str(raised.value).startswith(
        "teacher.pretrained=true: no weights for timm/resnet18 (no route to host)"
    )
    assert "\n" not in str(raised.value)


def test_both_roles_on_the_command_line() -> None:
    run = composed(
        "teacher=timm/resnet18.a1_in1k student=timm/mobilenetv3_small_050 teacher.pretrained=true"
    ).run
    assert (run.teacher.name, run.teacher.family, run.teacher.pretrained) == (
        "timm/resnet18.a1_in1k",
        "timm",
        True,
    )
    assert (run.student.name, run.student.family, run.student.args) == (
        "timm/mobilenetv3_small_050",
        "timm",
        {},
    )
    with pytest.raises(
        KdrunError, match=r"^teacher=timm/resnet19: timm has no such model\. Nearest: .*timm/resnet"
    ):
        composed("teacher=timm/resnet19")
