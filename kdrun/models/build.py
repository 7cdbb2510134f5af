"""One call from a model's description to the model: family, stem, head, input size and initial weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import nn

from kdrun.config.choices import RESIZES, STEMS
from kdrun.errors import KdrunError, first_line
from kdrun.figures import as_typed, file_size
from kdrun.lookup import check_arguments
from kdrun.models.dry import dry_forward
from kdrun.models.family import Draft, Family, TooSmall, find
from kdrun.models.inputs import Normalisation, Resize
from kdrun.models.survey import survey
from kdrun.resources import free_memory
from kdrun.users_code import is_users, reason

CANDIDATES = (32, 64, 75, 96, 128, 224, 299)
"""Sides that are tried, in this order, when a network does not take images as they are."""

Size = tuple[int, int]

LARGE = 4096
"""Models with no larger number among their arguments are small. Torch's meta device, on which others are
tried, imports the compiler when it is first used.
"""


class Built(NamedTuple):
    """A model from images of the data set, as they are, to logits (N, classes). notes: for the screen.
    image_size: the side of the images that the network itself sees. head_is_new: pretrained weights do not
    cover the whole model, so it must be trained.
    """

    model: nn.Module
    notes: tuple[str, ...]
    image_size: int
    head_is_new: bool = False


def build(
    node: Mapping[str, Any], classes: int, image_shape: tuple[int, int, int], resize: str, seed: int
) -> Built:
    """The model of a node {name, family, args, stem, pretrained}, for images (C, H, W) of a data set.

    `role` in the node, if given, is what errors call it (`student.args.depth`); `normalisation`, (mean, std),
    what images were normalised with. resize: auto (in the model's forward to the smallest size that works, if
    need be) or none. Initial weights depend on `seed` alone; the global random state stays. Raises
    KdrunError.
    """
    role = str(node.get("role", "model"))
    family = find(str(node["family"]), f"{role}.family")
    args = dict(node.get("args") or {})
    check_arguments(family.name, family.arguments, args, f"{role}.args")
    given = _given(node, role, family, classes, image_shape)

    def make(size: Size) -> Draft:
        with seeded(seed), _keys_below(role, family, args):
            return family.call(args, {**given, "image_size": size})

    refuse_huge(
        lambda: family.call(args, {**given, "image_size": image_shape[1:]}).model, args, f"{role}.args"
    )
    draft, size = _fitted(make, family, given["name"], role, image_shape, resize)
    _keep_inputs(draft.model)
    survey(draft.model, image_shape)
    return Built(draft.model, draft.notes, size[0], draft.head_is_new)


def _fitted(
    make: Callable[[Size], Draft],
    family: Family,
    name: str,
    role: str,
    image_shape: tuple[int, int, int],
    resize: str,
) -> tuple[Draft, Size]:
    """The model and the first size that works: the native one, if it does. Raises KdrunError."""
    if resize not in RESIZES:
        raise KdrunError("dataset.resize", resize, "no such choice", RESIZES)
    channels, native = image_shape[0], (image_shape[1], image_shape[2])
    first = _search(make, "image_size" in family.parameters, channels, native)
    if isinstance(first, Exception):
        problem = f"takes images of no size that was tried ({first_line(first)})"
        raise KdrunError(f"{role}.name", name, problem)
    draft, size = first
    if size == native:
        return first
    if resize == "none":
        problem = f"{name} does not take images of {native[0]}x{native[1]}; {size[0]}x{size[1]} would do"
        raise KdrunError("dataset.resize", resize, problem)
    return draft._replace(notes=(*draft.notes, resized(draft.model, name, native, size[0]))), size


def _search(
    make: Callable[[Size], Draft], by_size: bool, channels: int, native: Size
) -> tuple[Draft, Size] | Exception:
    """The first size that works, or why the last did not. by_size: the network is another for each."""
    drafts: list[Draft] = []
    problem: Exception = TooSmall("no size was tried")
    for size in candidates(native, lambda: getattr(drafts[0].model, "image_size", None) if drafts else None):
        try:
            if by_size or not drafts:
                drafts[:] = [make(size)]
        except TooSmall as error:
            problem = error
            continue
        refused = refusal(drafts[0].model, channels, size)
        if refused is None:
            return drafts[0], size
        problem = refused
    return problem


def candidates(native: Size, own: Callable[[], Any]) -> Iterator[Size]:
    """The sizes to try: the native one, larger squares in order, then smaller ones from the largest. own:
    called after the first size; the size that the model itself names, as vision transformers do, or None.
    """
    yield native
    named = own()
    sides = sorted({*CANDIDATES, named} if isinstance(named, int) else CANDIDATES)
    yield from ((side, side) for side in sides if side >= max(native) and (side, side) != native)
    yield from ((side, side) for side in reversed(sides) if side < max(native))


def refusal(model: nn.Module, channels: int, size: Size) -> Exception | None:
    """Why the model does not take images of this size; None if it does."""
    try:
        dry_forward(model, (channels, *size))
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError, TypeError) as error:
        return error
    return None


def resized(model: nn.Module, name: str, native: Size, side: int) -> str:
    """Makes the model resize its input from `native` to a square, in place; says so and what it costs."""
    cost = side * side / (native[0] * native[1])
    model.register_forward_pre_hook(Resize(side, side < max(native)))
    shown = str(native[0]) if native[0] == native[1] else f"{native[0]}x{native[1]}"
    verb = "reduced" if side < max(native) else "enlarged"
    return f"images {verb} {shown} -> {side} for {name} ({cost:.3g} times the pixels)"


def _given(
    node: Mapping[str, Any], role: str, family: Family, classes: int, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The arguments that a run gives to `build`. Raises KdrunError for a choice that the family lacks."""
    stem, pretrained = str(node.get("stem") or "auto"), node.get("pretrained") or False
    normalised = node.get("normalisation")
    if stem not in STEMS:
        raise KdrunError(f"{role}.stem", stem, "no such stem", STEMS)
    if stem != "auto" and "stem" not in family.parameters:
        raise KdrunError(f"{role}.stem", stem, f"{family.name} has one stem only; take auto")
    if pretrained and "pretrained" not in family.parameters:
        problem = f"there are no weights for {family.name} to download; {role}.checkpoint takes a file"
        raise KdrunError(f"{role}.pretrained", "true", problem)
    return {
        "classes": classes,
        "channels": image_shape[0],
        "native_size": (image_shape[1], image_shape[2]),
        "name": str(node["name"]),
        "stem": stem,
        "pretrained": pretrained,
        "normalisation": Normalisation(*map(tuple, normalised)) if normalised else None,
    }


def refuse_huge(make: Callable[[], nn.Module], args: Mapping[str, Any], key: str) -> None:
    """Raises KdrunError below `key` for arguments that make more weights than there is free memory."""
    largest = {name: max(_numbers(value), default=0) for name, value in args.items()}
    name = max(largest, key=lambda name: largest[name], default="")
    free = free_memory()
    if not name or largest[name] <= LARGE or free is None:
        return
    needed = 0
    with suppress(Exception), torch.device("meta"):  # the real building fails too, and says why
        needed = sum(weight.numel() * weight.element_size() for weight in make().parameters())
    if needed > free:
        problem = f"the weights alone would take {file_size(needed)}; {file_size(free)} are free"
        raise KdrunError(f"{key}.{name}", as_typed(args[name]), problem)


def _numbers(value: Any) -> Iterator[float]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(each, (int, float)):
            yield each


def _keep_inputs(model: nn.Module) -> None:
    """Lets no activation write into its input, which a tap may keep."""
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block weights are drawn from the seed, on the CPU: only its generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _keys_below(role: str, family: Family, args: Mapping[str, Any]) -> Iterator[None]:
    """Puts the keys of a family's errors below the role: `depth` becomes `student.args.depth`. What torch
    cannot build is an error of the arguments, and what a user's module raises one of the module.
    """
    try:
        yield
    except KdrunError as error:
        raise error.below(f"{role}.args" if error.key in family.arguments else role) from None
    except TooSmall:  # then another size is tried
        raise
    except Exception as error:
        if is_users(family.build):
            raise KdrunError(f"{role}.family", family.name, reason(error)) from error
        if not args or isinstance(error, OSError):
            raise
        raise KdrunError(f"{role}.args", as_typed(args), f"cannot be built: {first_line(error)}") from error
