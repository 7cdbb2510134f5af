"""What a model looks like inside: its stages, its head, and outputs that it later overwrites in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from math import gcd, isqrt
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdrun.models.dry import dry_forward

ATTRIBUTE = "kdrun_anatomy"
"""The attribute in which a model keeps its anatomy."""

LARGE = 224
"""The side of images that are large enough for maps of another size at every stage."""

TOKEN_STAGES = 4
"""How many blocks of a transformer are its stages: evenly spread, with the last one."""

BESIDE = 16
"""The most tokens that are no patches: those of the class, of distillation, registers."""

PASSING = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d)
"""Modules that learn and select nothing: never the end of a stage."""

GLOBAL = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""Pooling to a fixed size, between blocks: the head begins."""


class Call(NamedTuple):
    """A module's last call in a forward. versions: of its input before the call, of its output after it."""

    path: str
    module: nn.Module
    input: Tensor | None
    output: Tensor | None
    versions: tuple[int, int]

    @property
    def size(self) -> tuple[int, ...]:
        """The shape of the output for one image."""
        return () if self.output is None else tuple(self.output.shape[1:])


class Anatomy(NamedTuple):
    """A model's layers as module paths (`path`, or `path:in` for a module's input; see
    `kdrun.models.taps.Tap`).

    stages: `stage:0` (the stem), `stage:1`, ... pre: the same before the activation, or empty. head: the
    classifier, whose input is the embedding, or empty. pooled: the map whose mean that may be, or empty.
    overwritten: paths whose tensor is changed later in the forward, so that a tap must copy it; None before a
    survey.
    """

    stages: tuple[str, ...] = ()
    pre: tuple[str, ...] = ()
    head: str = ""
    pooled: str = ""
    overwritten: frozenset[str] | None = None


def anatomy(model: nn.Module) -> Anatomy:
    """The model's anatomy, from a survey, or as its family states it in `stages`, `pre` and `head`."""
    surveyed = vars(model).get(ATTRIBUTE)
    if isinstance(surveyed, Anatomy):
        return surveyed
    # A module may have children of these names (timm's `stages`, Swin's `head`); those are not in `vars`.
    stages, pre, head = (vars(model).get(name) for name in ("stages", "pre", "head"))
    return Anatomy(
        stages if isinstance(stages, tuple) else (),
        pre if isinstance(pre, tuple) else (),
        head if isinstance(head, str) else "",
    )


def survey(model: nn.Module, image_shape: tuple[int, int, int]) -> Anatomy:
    """Completes what a model states by one dry forward of images (C, H, W), and keeps it in the model."""
    known = anatomy(model)
    if known.overwritten is not None:
        return known
    calls = list(record(model, image_shape))
    stages = known.stages or find_stages(model, _at_large(model, image_shape) or calls)
    head = known.head or find_head(calls)
    whole = Anatomy(
        tuple(as_map(stage, calls, image_shape) for stage in stages),
        known.pre,
        head,
        find_pooled(calls, head),
        frozenset(find_overwritten(calls)),
    )
    setattr(model, ATTRIBUTE, whole)
    return whole


def _at_large(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Call]:
    """The calls for images so large that stages differ in size; empty if the model takes no such images."""
    with suppress(Exception):
        return list(record(model, (image_shape[0], LARGE, LARGE)))
    return []


def record(model: nn.Module, image_shape: tuple[int, int, int]) -> Iterator[Call]:
    """The calls of one dry forward, in the order in which they end; of several of one module, the last."""
    calls: dict[str, Call] = {}
    given: dict[str, tuple[Tensor | None, int]] = {}

    def enter(path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        given[path] = (first_tensor(args), _version(first_tensor(args)))

    def leave(path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        (read, version), made = given[path], first_tensor(output)
        calls.pop(path, None)
        calls[path] = Call(path, module, read, made, (version, _version(made)))

    with ExitStack() as hooks:
        for path, module in model.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(partial(enter, path)))
            hooks.enter_context(module.register_forward_hook(partial(leave, path)))
        dry_forward(model, image_shape)
    yield from calls.values()


def head_of(model: nn.Module) -> nn.Module | None:
    """The model's classifier, None if there is none."""
    path = anatomy(model).head
    return model.get_submodule(path) if path else None


def find_overwritten(calls: list[Call]) -> Iterator[str]:
    """Taps whose tensor was changed after the call: `path` for a module's output, `path:in` for its input."""
    for call in calls:
        if _version(call.output) != call.versions[1]:
            yield call.path
        if _version(call.input) != call.versions[0]:
            yield f"{call.path}:in"


def find_head(calls: list[Call]) -> str:
    """The last linear layer or convolution that is called; empty if there is none."""
    return next(
        (c.path for c in reversed(calls) if c.path and isinstance(c.module, (nn.Linear, nn.Conv2d))), ""
    )


def find_pooled(calls: list[Call], head: str) -> str:
    """The last map before the head with as many channels as the head has inputs; empty if there is none."""
    paths = [call.path for call in calls]
    if head not in paths or (read := calls[paths.index(head)].input) is None:
        return ""
    maps = (call for call in reversed(calls[: paths.index(head)]) if len(call.size) == 3)
    passing = (*PASSING, *GLOBAL)
    fitting = (c.path for c in maps if c.size[0] == read.shape[1] and not isinstance(c.module, passing))
    return next(fitting, "")


def find_stages(model: nn.Module, calls: list[Call]) -> tuple[str, ...]:
    """The stem, then the last block at each resolution; for a transformer, evenly spread blocks."""
    blocks = set(block_paths(model))
    row = [call for call in calls if call.path in blocks]
    head = find_head(calls)
    ends = [n for n, call in enumerate(row) if call.path == head or isinstance(call.module, GLOBAL)]
    row = [call for call in row[: min(ends, default=None)] if not isinstance(call.module, PASSING)]
    tokens = [call for call in row if len(call.size) == 2 and call.size[0] > 1]
    maps = [call for call in row if len(call.size) == 3]
    if sum(map(_is_compound, tokens)) > sum(map(_is_compound, maps)):
        first = [call.path for call in maps[:1] or tokens[:1]]
        blocks_of_tokens = [call.path for call in tokens if _is_compound(call) and call.path not in first]
        return (*first, *spread(blocks_of_tokens))
    return map_stages(maps)


def map_stages(maps: list[Call]) -> tuple[str, ...]:
    """The stem, then the last block at each resolution, of blocks with maps (C, H, W). A block of several
    layers is preferred: activations between blocks and a widening convolution before a head are no stages.
    """
    if not maps:
        return ()
    stem = stem_length(maps)
    stages = [maps[stem - 1].path]
    resolution = maps[stem - 1].size[1:]
    ends: dict[tuple[int, ...], Call] = {}
    for call in maps[stem:]:
        if call.size[1] * call.size[2] > resolution[0] * resolution[1]:
            break
        resolution = call.size[1:]
        if _is_compound(call) or not _is_compound(ends.get(resolution, call)):
            ends[resolution] = call
    return (*stages, *(call.path for call in ends.values()))


def stem_length(maps: list[Call]) -> int:
    """How many blocks make up the stem: a compound one, or a convolution with its norm and activation."""
    length = 1
    if not _is_compound(maps[0]):
        while length < len(maps) and _follows(maps[length], maps[0]):
            length += 1
    return length


def spread(paths: list[str]) -> list[str]:
    """At most four of the paths, evenly spread, with the last one."""
    count = min(TOKEN_STAGES, len(paths))
    return [paths[(position + 1) * len(paths) // count - 1] for position in range(count)]


def as_map(stage: str, calls: list[Call], image_shape: tuple[int, int, int]) -> str:
    """The path of a stage. If it gives tokens (T, D), with their grid, as in `blocks.3:14x14`: that of the
    finest map in the network with no more positions than tokens, or if none is close, of the proportions of
    the images (C, H, W). Tokens that fill no grid stay tokens.
    """
    size = next((call.size for call in calls if call.path == stage), ())
    if len(size) != 2:
        return stage
    for grids in ([call.size[1:] for call in calls if len(call.size) == 3], [_like(image_shape, size[0])]):
        fitting = [grid for grid in grids if 0 <= size[0] - _area(grid) <= BESIDE]
        if fitting:
            height, width = max(fitting, key=_area)
            return f"{stage}:{height}x{width}"
    return stage


def _area(grid: tuple[int, ...]) -> int:
    return grid[0] * grid[1]


def _like(image_shape: tuple[int, int, int], most: int) -> tuple[int, int]:
    """The largest grid of at most `most` positions that has the images' proportions."""
    _, height, width = image_shape
    part = gcd(height, width)
    times = isqrt(most * part**2 // (height * width))
    return times * height // part, times * width // part


def block_paths(model: nn.Module) -> Iterator[str]:
    """The modules that a forward calls one after the other: layers, and blocks as a whole. The model and
    plain sequences are opened, and a module that is the only one of its class with most of the parameters.
    """
    kinds = Counter(type(module) for module in model.modules())
    most = _size(model) / 2

    def walk(path: str, module: nn.Module) -> Iterator[str]:
        children = list(module.named_children())
        trunk = kinds[type(module)] == 1 and _size(module) > most
        sequence = type(module).forward in (nn.Sequential.forward, nn.Module.forward)
        if children and (module is model or sequence or trunk):
            for name, child in children:
                yield from walk(f"{path}.{name}" if path else name, child)
        elif path:
            yield path

    return walk("", model)


def _is_compound(call: Call) -> bool:
    return next(call.module.children(), None) is not None


def _follows(call: Call, first: Call) -> bool:
    """Whether a layer is the norm or activation of a stem: it keeps the shape and is no convolution."""
    return not _is_compound(call) and not isinstance(call.module, nn.Conv2d) and call.size == first.size


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def first_tensor(value: Any) -> Tensor | None:
    """A module's output, or the first of several."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version
