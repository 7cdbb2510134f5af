"""A whole run as plain values: what the YAML files and the command line become once they are checked.

Each field is a key of `conf/config.yaml`, or of `conf/recipe/auto.yaml`, which say what it means.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kdrun.config.choices import EVALUATORS, STAGES

MISSING = "???"
"""What Hydra calls a value that must be given."""


@dataclass
class Model:
    """One model, in the role of the teacher or of the student. args: keyword arguments of the family's
    `build`.
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
class TeacherModel(Model):
    """A teacher, or one of several. dataset: the whole one on which it is trained; None: the run's."""

    dataset: Any = None
    head: str = "auto"
    classes: Any = None
    class_map: Any = None
    normalisation: Any = None
    weight: float = 1.0


def is_headless(model: Model) -> bool:
    """Whether it is a teacher without classes, of which only layers are read."""
    return isinstance(model, TeacherModel) and model.head == "none"


@dataclass
class Combine:
    """How several teachers answer as one: see `kdrun.training.combine`."""

    by: str = "mean_probabilities"
    weights: str = "auto"
    least: float | None = None


UPDATES = ("optimiser", "lr", "momentum", "nesterov", "weight_decay", "betas", "clip")
"""The keys of a recipe for the update of weights; the others set epochs and batches."""


@dataclass
class Recipe:
    """How one model is trained."""

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
    """What a student learns first: a loss of its own."""

    epochs: Any = 0
    lr: float | None = None
    transfer: str | None = None
    loss: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Runtime:
    """Settings that change the speed, and at most the last bits. Sizes are in gigabytes."""

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
class CheckpointSettings:
    """How often the state of a training is written."""

    seconds: float = 5.0
    minutes: float = 5.0


@dataclass
class Controls:
    """How controls are trained, if they are asked for. virtual_...: as in `kdrun.losses.virtual_teacher`."""

    smoothing: float = 0.1
    virtual_true_class: float = 0.99
    virtual_temperature: float = 20.0
    virtual_weight: float = 0.1
    longer_epochs: Any = "auto"


@dataclass
class Int8Settings:
    """How student and control are trained for 8 bits, if `quantise` is int8."""

    epochs: Any = 0.2
    lr: float | None = None
    weight_bits: int = 7


@dataclass
class Evaluation:
    """What is measured of the trained models. figures: the evaluators, by name."""

    figures: list[str] = field(default_factory=lambda: list(EVALUATORS))
    latency: bool = True
    batches: list[int] = field(default_factory=lambda: [1, 32])
    samples: int = 200
    seconds: float = 1.0
    plots: Any = "auto"


@dataclass
class Reference:
    """The trained model that the student is to replace: a run's, or a named one with its weights. Evaluation
    alone reads it: it is in no key of a training.
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
    def as_teacher(self) -> TeacherModel | None:
        """The model as a teacher's description; None of a run, or without a reference."""
        if self.model is None:
            return None
        own = {key: value for key, value in vars(self).items() if key not in ("run", "model", "margin")}
        return TeacherModel(**own | {"name": self.model, "family": self.family or MISSING})


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
    """A run.

    temperature, alpha: a number, a schedule `{from, to, epochs, shape}`, or None if no term uses it.
    teachers: several by name, in place of `teacher`, which is then the first of them. control: true is the
    plain control, false none, a list any of CONTROLS. In no fingerprint: engine (its `name` and the arguments
    of its class), name, note, tags.
    """

    dataset: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherModel = field(default_factory=TeacherModel)
    teachers: dict[str, TeacherModel] = field(default_factory=dict)
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
    int8: Int8Settings = field(default_factory=Int8Settings)
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
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)
    remarks: Remarks = field(default_factory=Remarks)


def recorded(run: Run) -> dict[str, Any]:
    """The run as plain values, as files record it."""
    values = asdict(run)
    del values["remarks"]
    return values
