"""Torchvision's names without torchvision."""

from __future__ import annotations

import subprocess
import sys

from kdrun.models.names import registered, torchvision_names


def test_names_are_torchvisions_own() -> None:
    import torchvision

    assert list(torchvision_names()) == sorted(torchvision.models.list_models(module=torchvision.models))


def test_nothing_is_imported() -> None:
    code = (
        "import sys\n"
        "from kdrun.models.names import torchvision_names\n"
        "assert 'resnet18' in torchvision_names()\n"
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
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
