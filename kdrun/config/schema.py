"""A whole run as plain values: what the YAML files and the command line become once they are checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kdrun.config.choices import EVALUATORS, STAGES

MISSING = "???"
"""What Hydra calls a value that must be given."""


@dataclass
class Model:
    """One model, in the role of the teacher or of the student.

    args: keyword arguments of the family's `build`. stem: auto, cifar or imagenet. seed: of the initial
    weights; None is 0 for the teacher and the run's seed for the student. reuse_classifier: whether a
    projector and the teacher's classifier take the place of a student's own classifier. projector_factor: by
    which the projector is narrower than the teacher's map. pretrained: true, or the name of weights.
    """

    name: str = MISSING
    family: str = MISSING
    args: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    pretrained: Any = False
    stem: str = "auto"
    seed: int | None = None
    reuse_classifier: bool = False
    projector_factor: int = 2


@dataclass
class Teacher(Model):
    """A teacher, or one of several.

    classes: the names of its outputs, in their order, or a file with one a line; a teacher that is trained
    learns from the images of these classes only. class_map: a mapping from its classes to those of the data
    set, or a file with one. normalisation: `{mean, std}` of pixels from 0 to 1, as its own training had it.
    weight: of its answers among those of others. dataset: the whole data set on which it is trained; None:
    that of the run. head: auto, or none for a file without a classifier, of which only layers are read.
    """

    dataset: Any = None
    head: str = "auto"
    classes: Any = None
    class_map: Any = None
    normalisation: Any = None
    weight: float = 1.0


def is_headless(model: Model) -> bool:
    """Whether it is a teacher without classes, of which only layers are read."""
    return isinstance(model, Teacher) and model.head == "none"


@dataclass
class Combine:
    """How several teachers answer as one: see `kdrun.training.combine`. weights: auto is fixed if all know
    the same classes, else most_confident. least: of the surest teacher; images below it have no soft target.
    """

    by: str = "mean_probabilities"
    weights: str = "auto"
    least: float | None = None


UPDATES = ("optimiser", "lr", "momentum", "nesterov", "weight_decay", "betas", "clip")
"""The keys of a recipe for the update of weights; the others set epochs and batches."""


@dataclass
class Recipe:
    """How one model is trained.

    stop_at: after which epoch, or which fraction of all, it is stopped early; the rates stay those of all.
    optimiser: sgd, adam or adamw. schedule: constant, step (times gamma at each milestone, in epochs), cosine
    or onecycle (from lr / div over lr to lr / (div * final_div)). warmup: a fraction of all steps.
    clip: the largest norm of the gradient.
    """

    name: str = MISSING
    epochs: int = MISSING  # type: ignore[assignment]
    batch: int = MISSING  # type: ignore[assignment]
    stop_at: Any = None
    optimiser: str = MISSING
    lr: float = MISSING  # type: ignore[assignment]
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    schedule: str = "constant"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    warmup: float = 0.0
    div: float = 25.0
    final_div: float = 1e4
    clip: float | None = None
    label_smoothing: float = 0.0


@dataclass
class Recipes:
    """One recipe a training; the control's is the student's.

    labelled_share: the share of each of a student's batches that is drawn from the labelled images; None:
    images come as they are. Teacher and control see no others. assistant: the student's as well, with its
    numbers for each assistant's model. teachers: of each of several teachers, by name. reasons: why
    `recipe=auto` took the one it took (`by model family`), by role, for the screen.
    """

    teacher: Recipe = field(default_factory=Recipe)
    student: Recipe = field(default_factory=Recipe)
    labelled_share: float | None = None
    assistant: list[Recipe] = field(default_factory=list)
    teachers: dict[str, Recipe] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class PhaseOne:
    """What a student learns first: a loss of its own. epochs: how many of its epochs that takes, or which
    share of them; 0: there is no such phase. lr: in place of the recipe's; None: the recipe's. transfer: its
    images, as in `Run`; None: those of the run.
    """

    epochs: Any = 0
    lr: float | None = None
    transfer: str | None = None
    loss: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Runtime:
    """Settings that change the speed, and at most the last bits.

    table: auto keeps a teacher's answers on disk if its views are finite and they fit in `table_gb`
    gigabytes, in `table_dtype` (fp32 or fp16); off runs the teacher in every step. ahead_gb: on a GPU, the
    memory for a teacher's answers to coming batches. graph: whether the step on a GPU is one CUDA graph.
    compile: whether the models are compiled before. jobs: how many trainings run at once.
    together: whether trainings with the same images share them. workers: processes that decode images.
    cache_gb: the memory for decoded images of a set that does not fit in memory. sync_bn: whether batch norms
    take the statistics of the whole batch if several processes share it.
    """

    table: str = "auto"
    table_gb: float = 8.0
    table_dtype: str = "fp32"
    ahead_gb: float = 8.0
    graph: str = "auto"
    compile: bool = False
    jobs: Any = "auto"
    together: bool = True
    workers: Any = "auto"
    cache_gb: float = 4.0
    sync_bn: bool = False


@dataclass
class Checkpoint:
    """How often the state of a training is written: at the end of an epoch if `seconds` have passed since the
    last time, within a long epoch if `minutes` have."""

    seconds: float = 5.0
    minutes: float = 5.0


@dataclass
class Controls:
    """How controls are trained, if they are asked for.

    smoothing: of `smoothed`. virtual_...: of `teacher_free`, as in `kdrun.losses.virtual_teacher`; the labels
    weigh 1 - virtual_weight. longer_epochs: of `longer`; auto: as many as cost what teacher and student cost
    together.
    """

    smoothing: float = 0.1
    virtual_true_class: float = 0.99
    virtual_temperature: float = 20.0
    virtual_weight: float = 0.1
    longer_epochs: Any = "auto"


@dataclass
class Int8:
    """How student and control are trained for 8 bits, if `quantise` is int8. epochs: a number, or a share of
    the student's. lr: the learning rate; None: a tenth of the student's. weight_bits: with the sign.
    """

    epochs: Any = 0.2
    lr: float | None = None
    weight_bits: int = 7


@dataclass
class Evaluation:
    """figures: the evaluators, by name. latency: whether it is measured; at which batch sizes; with how many
    samples or seconds. plots: whether pictures are drawn; auto: of a single run, not of each job of a sweep
    or a table."""

    figures: list[str] = field(default_factory=lambda: list(EVALUATORS))
    latency: bool = True
    batches: list[int] = field(default_factory=lambda: [1, 32])
    samples: int = 200
    seconds: float = 1.0
    plots: Any = "auto"


@dataclass
class Reference:
    """The trained model that the student is to replace. Evaluation alone reads it: it is in no key of a
    training.

    run: `RUN`, a run's student by name, id or folder; `RUN/teacher` or `RUN/control`: another of its models.
    model: or the name of a model whose weights are in `checkpoint`, or are `pretrained`; args, stem, classes,
    class_map and normalisation as those of a teacher. margin: the student is as good if it is surely less
    than so many points of accuracy below.
    """

    run: str | None = None
    model: str | None = None
    family: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    pretrained: Any = False
    stem: str = "auto"
    classes: Any = None
    class_map: Any = None
    normalisation: Any = None
    margin: float = 1.0

    @property
    def as_teacher(self) -> Teacher | None:
        """The model as a teacher's description; None of a run, or without a reference."""
        if self.model is None:
            return None
        return Teacher(
            name=self.model,
            family=self.family or MISSING,
            args=self.args,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            stem=self.stem,
            classes=self.classes,
            class_map=self.class_map,
            normalisation=self.normalisation,
        )


@dataclass
class Remarks:
    """What the header says of the configuration; it changes no result and is in no record.

    spelled: the long keys that short ones stood for, `recipe.student.epochs=3`. by_data_set: the roles whose
    models were not chosen, so that the data set's file says them.
    """

    spelled: list[str] = field(default_factory=list)
    by_data_set: list[str] = field(default_factory=list)


@dataclass
class Run:
    """A run. Each field is a key of `conf/config.yaml`, which says what it means.

    temperature, alpha: a number, a schedule `{from, to, epochs, shape}`, or None if no term uses it.
    teachers: several teachers by name, in place of `teacher`, which is then the first of them.
    transfer: which images the student is taught on: all, or only those with or without labels.
    transfer_classes, transfer_without: the classes that stay in its transfer set, or that are left out, by
    name; empty: all stay. assistant: models between
    teacher and student, each taught by the one before. generations: how many students one after the other,
    each taught by the one before. momentum_delta: by how much the momentum of terms that read the teacher is
    higher, and that of the others lower; None if there is one momentum. peer: whether a model of the
    teacher's architecture is trained in the same steps as the student, and each learns from the other.
    control: true is the plain control, false none, a list any of CONTROLS. reference: the model that the
    student is to replace. quantise: int8 also measures student and control in 8 bits, trained for that or
    not; None does not. quick: whether this is a trial with two batches of everything, which is no result.
    engine: where trainings are made: its `name`, and the arguments of its class; in no fingerprint.
    name, note, tags: what the user calls the run, for finding it; in no fingerprint.
    """

    dataset: dict[str, Any] = field(default_factory=dict)
    teacher: Teacher = field(default_factory=Teacher)
    teachers: dict[str, Teacher] = field(default_factory=dict)
    combine: Combine = field(default_factory=Combine)
    student: Model = field(default_factory=Model)
    method: str | None = None
    loss: dict[str, dict[str, Any]] = field(default_factory=dict)
    phase_one: PhaseOne = field(default_factory=PhaseOne)
    recipe: Recipes = field(default_factory=Recipes)
    assistant: list[Model] = field(default_factory=list)
    generations: int = 1
    peer: bool = False
    reference: Reference = field(default_factory=Reference)
    experiment: str | None = None
    temperature: Any = None
    alpha: Any = None
    momentum_delta: float | None = None
    seed: int = 0
    transfer: str = "all"
    transfer_classes: list[Any] = field(default_factory=list)
    transfer_without: list[Any] = field(default_factory=list)
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    control: Any = True
    controls: Controls = field(default_factory=Controls)
    quantise: str | None = None
    int8: Int8 = field(default_factory=Int8)
    device: str = "auto"
    precision: str = "auto"
    threads: Any = "auto"
    data_dir: str = "data"
    outputs_dir: str = "outputs"
    packages: list[str] = field(default_factory=list)
    logger: list[str] = field(default_factory=list)
    diagnostics: list[str] = field(default_factory=list)
    fresh: bool = False
    quick: bool = False
    name: str | None = None
    note: str | None = None
    tags: list[str] = field(default_factory=list)
    engine: dict[str, Any] = field(default_factory=lambda: {"name": "auto"})
    runtime: Runtime = field(default_factory=Runtime)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    evaluation: Evaluation = field(default_factory=Evaluation)
    remarks: Remarks = field(default_factory=Remarks)


def recorded(run: Run) -> dict[str, Any]:
    """The run as plain values, as files record it."""
    values = asdict(run)
    del values["remarks"]
    return values
