"""The trained model that a student is to replace: found and described, and loaded when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kdrun.artefacts import file_hash, fingerprint
from kdrun.config.schema import Run, TeacherModel
from kdrun.errors import KdrunError
from kdrun.figures import as_typed, plural
from kdrun.lookup import refuse_unlisted
from kdrun.models.class_names import differences, stated_classes
from kdrun.models.class_relation import Related, Relation, relation
from kdrun.models.seen import Sight, seen
from kdrun.models.torchvision import weights_name
from kdrun.models.weights import load_into, read_weights
from kdrun.paths import expanded
from kdrun.plan.ground import Ground, Grounds, sight
from kdrun.plan.kept import KEPT, KeptModel, kept
from kdrun.plan.key import model_key
from kdrun.plan.several import class_map, standing
from kdrun.report.naming import run_named
from kdrun.report.read import NAME, read

KEY = "reference"


@dataclass(frozen=True)
class ReplacedModel:
    """name: of its model. origin: the run and its model, or the file, that it is from. source: run,
    checkpoint or pretrained. sight: how it sees pixels. relation: of its classes to those of the data set.
    identity: all that its answers follow from. margin: in points. load: makes the model anew, from its own
    images to its own logits, on the CPU. dataset: the settings of the data set that it learned from, if they
    are known.
    """

    name: str
    origin: str
    source: str
    sight: Sight
    relation: Relation
    identity: str
    margin: float
    load: Callable[[], nn.Module]
    dataset: dict[str, Any] | None = None

    def network(self, ground: Ground) -> nn.Module:
        """From the images of a run (N, C, H, W) to logits (N, K) over its classes, on its device."""
        model = seen(self.load().eval(), sight(ground.data), self.sight)
        related = model if self.relation.same else nn.Sequential(model, Related(self.relation))
        placed: nn.Module = related.to(ground.machine.device)
        return placed


def reference_of(run: Run, place: Ground, grounds: Grounds) -> ReplacedModel | None:
    """The reference of a run; None without one. Raises KdrunError for one that is not there, or whose images
    or classes are others than those of the data set.
    """
    if run.reference.run is not None:
        return _of_run(run, run.reference.run, place)
    teacher = run.reference.as_teacher
    return None if teacher is None else _of_file(run, teacher, place, grounds)


def _of_run(run: Run, text: str, place: Ground) -> ReplacedModel:
    own, data = _kept(run, text), place.data
    if own.shape[0] != data.image_shape[0]:
        channels = plural(own.shape[0], "channel")
        problem = f"sees images of {channels}; those of {data.name} have {data.image_shape[0]}"
        raise KdrunError(KEY, text, problem)
    means = own.about["normalisation"]
    seen_as = Sight(tuple(means["mean"]), tuple(means["std"]), data.white, own.shape)
    related = relation(own.classes, data.classes, KEY, class_map(run.reference.class_map, KEY))
    described = {key: own.node[key] for key in ("name", "family", "args", "stem")}
    packages = tuple(run.packages)
    return ReplacedModel(
        name=str(own.node["name"]),
        origin=text if _split(text)[0] != text else f"{text}/{own.role}",
        source="run",
        sight=seen_as,
        relation=related,
        identity=fingerprint([described, file_hash(own.weights), related, seen_as]),
        margin=run.reference.margin,
        load=lambda: own.model(packages),
        dataset=_dataset(own),
    )


def _kept(run: Run, text: str) -> KeptModel:
    """The model of a run that `reference=text` names. Raises KdrunError under that key."""
    name, role = _split(text)
    outputs = Path(run.outputs_dir)
    try:
        own = kept(run_named(name, outputs.parent if run.quick else outputs), role)
    except KdrunError as error:
        _, _, problem, *more = error.args
        if expanded(text).is_file():
            problem += f". Of which model are its weights? reference.model=MODEL reference.checkpoint={text}"
        elif "/" in name and not expanded(name).exists():
            problem += f". One of its models: {' | '.join(f'reference=RUN/{role}' for role in KEPT)}"
        raise KdrunError(KEY, text, problem, *more) from error
    if "." in (family := str(own.node["family"])):
        refuse_unlisted(family, KEY, text, run.packages)
    return own


def _dataset(own: KeptModel) -> dict[str, Any] | None:
    if not (own.folder / NAME).is_file():
        return None
    dataset: dict[str, Any] | None = read(own.folder).get("config", {}).get("dataset")
    return dataset


def _split(text: str) -> tuple[str, str]:
    """The run of `RUN/teacher`, and which of its models."""
    run, slash, role = text.rstrip("/").rpartition("/")
    if slash and role in KEPT and run:
        return run, role
    return text, "student"


def _of_file(run: Run, teacher: TeacherModel, place: Ground, grounds: Grounds) -> ReplacedModel:
    own, related = standing(place, teacher, KEY, grounds)
    path = teacher.checkpoint
    if path and teacher.classes is None and teacher.class_map is None:
        _refuse_others(expanded(path), place)
    if own.models.plan(teacher, KEY, 0).head_is_new and not path:
        problem = "its weights do not know the classes of the data set: it is no trained model for them"
        raise KdrunError("reference.pretrained", as_typed(teacher.pretrained), problem)

    def load() -> nn.Module:
        model = own.models.build(teacher, KEY, 0).model
        if path:
            load_into(model, read_weights(Path(path)), "reference.checkpoint", path)
        return model

    return ReplacedModel(
        name=teacher.name,
        origin=path or weights_name(teacher.family, teacher.name, teacher.pretrained),
        source="checkpoint" if path else "pretrained",
        sight=sight(own.data),
        relation=related,
        identity=fingerprint([model_key(teacher), related, sight(own.data)]),
        margin=run.reference.margin,
        load=load,
    )


def _refuse_others(file: Path, place: Ground) -> None:
    """Raises KdrunError if the classes that a file states are others, or in another order."""
    if problem := differences(stated_classes(file), place.data.classes):
        hint = "If that is meant, say how they relate: reference.class_map={...}"
        raise KdrunError("reference.checkpoint", str(file), f"{problem}. {hint}")
