"""Torchvision's names without torchvision."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdrun.models.names import library, registered, timm_names, torchvision_names


def test_names_are_torchvisions_own() -> None:
    import torchvision

    assert list(torchvision_names()) == sorted(torchvision.models.list_models(module=torchvision.models))


def test_timms_names_are_its_own() -> None:
    timm = pytest.importorskip("timm")
    assert sorted(f"timm/{name}" for name in timm.list_models()) == list(timm_names())


def test_which_library_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.models.names.timm_names", lambda: ("timm/resnet18",))
    assert library("resnet18") == "torchvision"
    assert library("timm/resnet18") == library("timm/resnet18.a1_in1k") == "timm"
    assert library("timm/resnet19") is library("resnet19") is library("timm") is None
    monkeypatch.setattr("kdrun.models.names.timm_names", tuple)
    assert library("timm/anything") == "timm"  # its family says that timm is not installed


def test_nothing_is_imported() -> None:
    code = (
        "import sys\n"
        "from kdrun.models.names import timm_names, torchvision_names\n"
        "assert 'resnet18' in torchvision_names()\n"
        "assert isinstance(timm_names(), tuple)\n"
        "assert not {'torch', 'torchvision', 'timm', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_forms_of_registration() -> None:
    source = (
        "@register_model()\n@other(weights=('pretrained', X))\ndef one(\n    *, weights=None):\n    pass\n\n"
        "@register_model(name='two_named')\ndef two():\n    pass\n\n"
        '@register_model("three-named".replace("-", "_"))\ndef unread():\n    pass\n\n'
        "def register_model(name=None):\n    pass\n"
    )
    assert registered(source) == ("one", "two_named")
