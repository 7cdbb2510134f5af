"""use.py: a short program that uses the exported files without kdrun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Any

from kdrun.models.exported import ABOUT, INPUT

PT2 = f"""\
import torch

extra = {{"{ABOUT}": ""}}
model = torch.export.load(sys.argv[1], extra_files=extra).module()
about = json.loads(extra["{ABOUT}"])
answer = lambda images: model(torch.from_numpy(images)).detach().numpy()
"""

ONNX = f"""\
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["{ABOUT}"])
answer = lambda images: session.run(None, {{"{INPUT}": images}})[0]
"""

SQUARE = """\
    size = [int(about["resize_to"] * length / min(picture.size)) for length in picture.size]
    picture = centre(picture.resize(size, Image.BILINEAR), about["resize_to"], about["resize_to"])
"""

OBLONG = """\
    scale = max(width / picture.width, height / picture.height)
    size = max(width, int(picture.width * scale)), max(height, int(picture.height * scale))
    picture = picture.resize(size, Image.BILINEAR)
"""

TEXT = '''\
"""Classifies pictures without kdrun: python use.py {file} cat.png dog.jpg"""

import json
import sys

import numpy as np
from PIL import Image, ImageOps

{load}
_, height, width = about["image_shape"]
mean, std = (np.array(about["normalisation"][name], "f").reshape(-1, 1, 1) for name in ("mean", "std"))


def centre(picture, width, height):
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))


for path in sys.argv[2:]:
    picture = ImageOps.exif_transpose(Image.open(path)).convert("{mode}")
{resize}\
    pixels = np.asarray(centre(picture, width, height), "f").reshape(height, width, -1).transpose(2, 0, 1)
    logits = answer(((pixels / 255 - mean) / std)[None])[0]
    shares = np.exp(logits - logits.max())
    print(path, about["classes"][logits.argmax()], shares.max() / shares.sum())
'''


def program(files: Sequence[str], about: Mapping[str, Any]) -> str:
    """The text of use.py for these files. It treats 8-bit pictures as `kdrun predict` does. Empty if the
    model takes images with other channels than pictures have.

    about: the metadata in the files.
    """
    channels, height, width = about["image_shape"]
    if channels not in (1, 3):
        return ""
    resize = SQUARE if height == width else OBLONG
    return TEXT.format(file=files[0], load=_loads(files), mode="L" if channels == 1 else "RGB", resize=resize)


def _loads(files: Sequence[str]) -> str:
    """The lines that open a file, and import only the packages that it needs."""
    kinds = {file.endswith(".pt2") for file in files}
    if len(kinds) == 1:
        return PT2 if True in kinds else ONNX
    branches = [part.replace("\n\n", "\n") for part in (PT2, ONNX)]
    pt2, onnx = (indent(part, "    ") for part in branches)
    return f'if sys.argv[1].endswith(".pt2"):\n{pt2}else:\n{onnx}'
