"""Several teachers of a student, or one with other classes: the classes of each, and what terms can read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import yaml

from kdrun.config.schema import Combine, Run, TeacherModel, is_headless
from kdrun.data.classes import of_classes, renamed
from kdrun.data.images import ImageSet
from kdrun.data.overlap import overlap
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix, Term
from kdrun.models.class_names import stated_classes
from kdrun.models.class_relation import Relation, relation
from kdrun.models.seen import mixing
from kdrun.paths import expanded
from kdrun.plan.build import Models
from kdrun.plan.ground import Ground, Grounds, own_ground
from kdrun.training.combine import Combination
from kdrun.training.several import AskedTeacher
from kdrun.types import CLASSIFIER

GATE = "most_confident"
"""The default weights of teachers that know different classes."""


LAYERS = "fitnet, at, sp, rkd, pkt, crd, nst, vid ..."
"""Losses of layers, for the error of one that reads logits that are not there."""


MOST_SHARED = 0.01
"""The share of the test images that a teacher may be trained on: published sets have a few images twice."""


class Several(NamedTuple):
    """asked: the teachers in the order of the training's `teachers`. how: None: no term reads all as one."""

    asked: tuple[AskedTeacher, ...]
    how: Combination | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.asked)

    @property
    def blocks(self) -> Mapping[str, tuple[int, ...]]:
        """The student's classes that each teacher knows, by its name; empty if all teachers know all."""
        known = [each for each in self.asked if each.relation.targets]
        whole = all(each.relation.whole for each in known)
        return {} if whole else {each.name: each.relation.known for each in known}

    @property
    def answers_images(self) -> bool:
        """Whether they can answer as one for an image without a label."""
        return self.how is not None and self.how.weights != "known"


def standing(
    place: Ground, teacher: TeacherModel, key: str, grounds: Grounds, *, alone: bool = True
) -> tuple[Ground, Relation]:
    """The ground of a teacher: the run's or that of its own data set, with its classes and normalisation. And
    the relation of its classes to those of the run's data set.

    key: of the teacher in the configuration. alone: whether it is the only one, which must then know all
    classes or say otherwise. Raises KdrunError for classes or images that do not fit.
    """
    loaded = bool(teacher.checkpoint) or bool(teacher.pretrained)
    own, mapped = place, class_map(teacher.class_map, key)
    if teacher.dataset is not None:
        own = own_ground(place, teacher.dataset, key, grounds)
        _refuse_channels(own.data, place.data, key)
        if not loaded:
            _refuse_test_images(own.data, place.data, key)
    names: Sequence[str] = own.data.classes
    if is_headless(teacher):
        stands = _changed(own, names, relation(names, names, key), teacher, key, grounds)
        return stands, Relation((), len(place.data.classes))
    names, related = _related(names, teacher, key, loaded, mapped if own is place else None)
    stands = _changed(own, names, related, teacher, key, grounds)
    if own is place:
        return stands, related
    subset = teacher.classes is not None or not alone
    return stands, relation(names, place.data.classes, key, mapped, subset=subset)


def _changed(
    own: Ground, names: Sequence[str], related: Relation, teacher: TeacherModel, key: str, made: Grounds
) -> Ground:
    """A ground with the classes and the normalisation of a teacher, if they are others."""
    data, loaded = own.data, bool(teacher.checkpoint) or bool(teacher.pretrained)
    if related.same and teacher.normalisation is None:
        return own
    about = json.dumps([id(data), names, related.targets, loaded, teacher.normalisation], default=str)
    if about not in made:
        data = _data(data, names, related, teacher, key, loaded)
        made[about] = replace(own, data=data, models=Models(data, own.models.resize))
    return replace(made[about], run=own.run, transfer=own.transfer, teaches=own.teaches)


def _refuse_test_images(own: ImageSet, ours: ImageSet, key: str) -> None:
    """Raises KdrunError if a teacher would be trained on test images of the student's."""
    shared, every = overlap(own, ours).get("test", 0), len(ours.test.labels)
    if shared > MOST_SHARED * every:
        problem = (
            f"{shared:,} of the student's {every:,} test images are in its training part; a split and a test "
            "part that both have in common keep these apart"
        )
        raise KdrunError(f"{key}.dataset", own.name, problem)


def _refuse_channels(own: ImageSet, ours: ImageSet, key: str) -> None:
    """Raises KdrunError if the student's images cannot be given the channels of a teacher's."""
    try:
        mixing(ours.image_shape[0], own.image_shape[0])
    except ValueError as error:
        problem = f"its images have other channels than the student's, and {error}"
        raise KdrunError(f"{key}.dataset", own.name, problem) from error


def several_of(combine: Combine, mixes: Sequence[Mix], asked: tuple[AskedTeacher, ...]) -> Several | None:
    """How the teachers of a training answer; None if there is one with the student's classes.

    Raises KdrunError for a term that does not work with these teachers, or names a wrong one.
    """
    terms = [(f"{mix.key}.{term.name}", term) for mix in mixes for term in mix.terms]
    for key, term in terms:
        _refuse_name(term, key, [each.name for each in asked] if len(asked) > 1 else [])
    if not asked:
        return None
    reading = [(key, term) for key, term in terms if term.loss.needs.teacher]
    for each in asked:
        if reading and not any(term.teacher in ("", each.name) for _, term in reading):
            raise KdrunError(f"teachers.{each.name}", None, "no term reads it; leave it out")
    for key, term in reading:
        _refuse_headless(term, key, asked)
    together = len(asked) > 1 and any(not term.teacher for _, term in reading)
    how = combination(combine, asked) if together else None
    for key, term in reading:
        read = [each for each in asked if term.teacher in ("", each.name)]
        _refuse_layers(key, term.loss.needs.teacher, read)
        _refuse_logits(term, key, read, how)
    return Several(asked, how)


def refuse_named(mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for a term that must name one of several teachers, where assistants or generations
    are between these and the student: each of the others has one teacher, to which no such name belongs.
    """
    chain = "with assistants or generations the several teachers answer as one"
    for mix in mixes:
        for term in mix.terms:
            key = f"{mix.key}.{term.name}"
            if term.teacher:
                raise KdrunError(f"{key}.teacher", term.teacher, f"{chain}; leave it out")
            if term.loss.needs.teacher - {"logits"}:
                raise KdrunError(key, None, f"reads layers of one teacher, and {chain}")


def refuse_unanswered(run: Run, data: ImageSet, several: Several | None) -> None:
    """Raises KdrunError if several teachers cannot answer the images of the pool as one, or cannot choose
    among them.
    """
    if data.pool is None or several is None or several.answers_images:
        return
    if len(several.asked) == 1 and several.asked[0].relation.targets:
        return
    if several.how is not None:
        problem = "reads labels, and the images of dataset.unlabelled have none"
        raise KdrunError("combine.weights", several.how.weights, problem, ["most_confident", "energy"])
    for key in ("confidence", "top_k"):
        if (value := run.dataset.get(f"unlabelled_{key}")) is not None:
            problem = "no term reads the teachers as one, so they cannot choose images together"
            if len(several.asked) == 1:
                problem = "the teacher has no classes (head=none), so it cannot choose images"
            raise KdrunError(f"dataset.unlabelled_{key}", value, problem)


def combination(combine: Combine, asked: Sequence[AskedTeacher]) -> Combination:
    """How teachers answer as one. Raises KdrunError for a combination that their classes do not allow."""
    same = all(each.relation.known == asked[0].relation.known for each in asked)
    weights = combine.weights if combine.weights != "auto" else "fixed" if same else GATE
    if combine.by == "mean_logits" and not all(each.relation.whole for each in asked):
        problem = "logits of models with different classes have no common scale: take mean_probabilities"
        raise KdrunError("combine.by", combine.by, problem)
    if weights == "fixed" and not same:
        problem = "the teachers know different classes, so one of them must be chosen for each image"
        raise KdrunError("combine.weights", weights, problem, ["most_confident", "energy", "known"])
    if weights == "known" and same:
        raise KdrunError("combine.weights", weights, "all teachers know the same classes; take fixed")
    return Combination(combine.by, weights, combine.least)


def _refuse_name(term: Term, key: str, names: Sequence[str]) -> None:
    if term.teacher and not names:
        raise KdrunError(f"{key}.teacher", term.teacher, "there is one teacher; leave it out")
    if term.teacher and term.teacher not in names:
        raise KdrunError(f"{key}.teacher", term.teacher, "no such teacher", names)
    if term.teacher and not term.loss.needs.teacher:
        raise KdrunError(f"{key}.teacher", term.teacher, "this term reads no teacher")


def _refuse_headless(term: Term, key: str, asked: Sequence[AskedTeacher]) -> None:
    """A teacher without classes has layers only."""
    of_a_head = {"logits": "logits", CLASSIFIER: "classifier"}
    reads = [word for layer, word in of_a_head.items() if layer in term.loss.needs.teacher]
    read = [each for each in asked if term.teacher in ("", each.name)]
    lacking = [each.name for each in read if not each.relation.targets]
    if not reads or not lacking:
        return
    if term.teacher or len(asked) == 1:
        problem = f"reads the {reads[0]} of {lacking[0]}, which has no classes (head=none)"
        raise KdrunError(key, None, f"{problem}; terms that read layers would do: {LAYERS}")
    problem = (
        f"reads the {reads[0]} of all teachers, and {lacking[0]} has no classes (head=none): name another"
    )
    named = [each.name for each in asked if each.relation.targets]
    raise KdrunError(f"{key}.teacher", None, problem, named)


def _refuse_layers(key: str, reads: frozenset[str], read: Sequence[AskedTeacher]) -> None:
    """Raises KdrunError for a layer of several teachers, and for a classifier with other classes."""
    if len(read) > 1 and reads - {"logits"}:
        names = [each.name for each in read]
        raise KdrunError(f"{key}.teacher", None, "this term reads layers of one teacher: name it", names)
    if CLASSIFIER in reads and not read[0].relation.same:
        raise KdrunError(key, None, f"reads the classifier of {read[0].name}, which has other classes")


def _refuse_logits(term: Term, key: str, read: Sequence[AskedTeacher], how: Combination | None) -> None:
    if "logits" not in term.loss.needs.teacher or term.loss.takes_missing:
        return
    lacking = [each.name for each in read if not each.relation.whole]
    why = f"{' and '.join(lacking)} {'do' if lacking[1:] else 'does'} not know all classes" if lacking else ""
    if not why and how is not None and len(read) > 1 and how.least is not None:
        why = "combine.least leaves images without an answer"
    if why:
        problem = f"compares all logits, and {why}; soft_targets, hard_labels, ttm, wttm or ctkd would do"
        raise KdrunError(key, None, problem)


def _related(
    ours: Sequence[str], teacher: TeacherModel, key: str, loaded: bool, mapped: Mapping[str, str] | None
) -> tuple[tuple[str, ...], Relation]:
    """The names of a teacher's outputs, and their relation to the classes of its data set."""
    names = _names(teacher, key)
    if not loaded:
        for name in names or ():
            if name not in ours:
                raise KdrunError(f"{key}.classes", name, "the data set has no such class", ours)
        chosen = tuple(ours) if names is None else tuple(sorted(names, key=ours.index))
        return chosen, relation(chosen, ours, key, subset=True)
    stated = stated_classes(expanded(teacher.checkpoint)) if teacher.checkpoint else ()
    if names is None and mapped is not None and not stated:
        problem = (
            "the names of the teacher's classes, in the order of its outputs, are needed: its file has none"
        )
        raise KdrunError(f"{key}.classes", None, problem)
    if names is None and mapped is None and len(stated) in (0, len(ours)):
        return tuple(ours), relation(ours, ours, key)
    subset = names is not None
    names = names or tuple(stated)
    return names, relation(names, ours, key, mapped, subset=subset)


def _names(teacher: TeacherModel, key: str) -> tuple[str, ...] | None:
    if teacher.classes is None:
        return None
    if isinstance(teacher.classes, str):
        lines = _text(teacher.classes, f"{key}.classes").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(map(str, teacher.classes))


def class_map(written: Any, key: str) -> dict[str, str] | None:
    """A class map as it is written, a mapping or a file with one. Raises KdrunError for another file.

    key: of the model in the configuration.
    """
    path = written
    if isinstance(written, str):
        try:
            written = yaml.safe_load(_text(written, f"{key}.class_map"))
        except yaml.YAMLError:
            written = None
        if not isinstance(written, Mapping):
            problem = "must be a mapping with lines `teacher's class: data set's class`"
            raise KdrunError(f"{key}.class_map", path, problem)
    return None if written is None else {str(name): str(own) for name, own in written.items()}


def _text(path: str, key: str) -> str:
    try:
        return expanded(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KdrunError(key, path, "cannot be read as text") from error


def _data(
    data: ImageSet, names: Sequence[str], related: Relation, teacher: TeacherModel, key: str, loaded: bool
) -> ImageSet:
    if not related.same and loaded:
        data = renamed(data, names, related.targets)
    elif not related.same:
        data = of_classes(data, names, f"{key}.classes")
    if teacher.normalisation is None:
        return data
    channels, numbers = data.image_shape[0], {}
    for name, value in teacher.normalisation.items():
        listed = list(value) if isinstance(value, list) else [value] * channels
        if len(listed) != channels:
            problem = f"must be one number, or one for each of {channels} channels"
            raise KdrunError(f"{key}.normalisation.{name}", f"{value}", problem)
        numbers[name] = tuple(map(float, listed))
    return data._replace(mean=numbers["mean"], std=numbers["std"])
