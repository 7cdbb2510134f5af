"""Whole command lines become plain, checked runs."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from kdrun.config.arguments import parse
from kdrun.config.choices import ROLES
from kdrun.config.compose import single
from kdrun.config.exact import Inexact, exact
from kdrun.config.files import GROUPS, entries, shipped
from kdrun.config.load import Loaded
from kdrun.config.plugins import Written, complement
from kdrun.config.schema import Model, Recipe, Run, TeacherModel
from kdrun.config.sweep import composed_jobs
from kdrun.errors import KdrunError
from tests.config.composed import composed
from tests.shared_composing import sharing

pytestmark = pytest.mark.usefixtures("hydra_composes_each")


def test_the_default_run() -> None:
    run = composed().run
    assert (run.dataset["name"], run.teacher.name, run.student.name) == (
        "digits_few",
        "cnn_digits",
        "cnn_digits_small",
    )
    assert (run.method, run.recipe.student.name, run.recipe.teacher.name) == ("kd", "digits", "digits")
    assert (run.recipe.teacher.epochs, run.recipe.teacher.lr) == (40, 5e-3)
    assert (run.recipe.student.epochs, run.recipe.student.lr, run.recipe.student.batch) == (80, 3e-2, 32)
    assert run.loss["hard"]["weight"] == 0.1 and run.loss["soft"]["weight"] == 0.9
    assert (run.alpha, run.seed, run.control, run.fresh) == (0.9, 0, True, False)
    hint = yaml.safe_load((shipped() / "dataset" / "digits_few.yaml").read_text()).get("temperature", 4.0)
    assert run.temperature == run.loss["soft"]["temperature"] == hint
    assert "temperature" not in run.dataset  # it is the method's, no part of the data
    assert run.stages == ["teacher", "student", "evaluate"]


def test_everything_is_plain() -> None:
    run = composed("method=dkd loss.dkd.beta=2").run
    assert type(run) is Run and type(run.teacher) is TeacherModel and type(run.recipe.student) is Recipe
    for value in (run.dataset, run.loss, run.loss["dkd"], run.teacher.args, run.loss["dkd"]["weight"]):
        assert type(value) is dict
    assert run.loss["dkd"]["beta"] == 2
    assert type(run.stages) is list and type(run.recipe.student.milestones) is list
    assert (run.temperature, run.alpha) == (4.0, None)


def test_a_model_serves_in_both_roles_and_torchvisions_need_no_file() -> None:
    run = composed("teacher=cnn_digits_small student=resnet18 student.seed=3").run
    assert (run.teacher.name, run.teacher.family) == ("cnn_digits_small", "digits_cnn")
    assert (run.student.name, run.student.family, run.student.args) == ("resnet18", "torchvision", {})
    assert (run.student.seed, run.teacher.seed, run.student.stem) == (3, None, "auto")
    assert (run.recipe.student.epochs, run.recipe.student.lr) == (15, 1e-3)
    assert (run.recipe.teacher.epochs, run.recipe.teacher.lr) == (80, 3e-2)  # as it is trained as a student


def test_the_cifar_pair_takes_the_recipe_of_the_tables() -> None:
    run = composed("dataset=cifar100 teacher=resnet32x4 student=shufflenet_v2").run
    assert (run.recipe.teacher.name, run.recipe.student.name) == ("crd", "crd")
    assert (run.recipe.teacher.lr, run.recipe.student.lr) == (0.05, 0.01)
    assert run.recipe.student.milestones == [150, 180, 210] and run.recipe.student.weight_decay == 5e-4
    assert run.recipe.reasons == {"teacher": "by model family", "student": "by model family"}
    assert run.temperature == 4.0


def test_typed_numbers_beat_the_recipe_that_auto_takes() -> None:
    run = composed("recipe.student.epochs=5 recipe.student.lr=1").run
    assert (run.recipe.student.name, run.recipe.student.epochs, run.recipe.student.lr) == ("digits", 5, 1.0)
    assert run.recipe.teacher.epochs == 40


def test_a_term_is_added_and_another_dropped() -> None:
    run = composed("+loss@loss.hint=fitnet loss.hint.weight=7 ~loss.hard").run
    assert set(run.loss) == {"soft", "hint"}
    assert (run.loss["hint"]["name"], run.loss["hint"]["weight"]) == ("feature", 7)


def test_a_schedule_for_alpha_gives_the_labels_the_rest() -> None:
    run = composed("'alpha={from: 0, to: 0.9, epochs: 20}'").run
    assert run.loss["soft"]["weight"] == {"from": 0, "to": 0.9, "epochs": 20}
    assert run.loss["hard"]["weight"] == {"from": 1, "to": 0.1, "epochs": 20}


@pytest.mark.parametrize(("value", "rest"), [(0.9, 0.1), (0.3, 0.7), (1, 0), ("abc", "abc"), (True, True)])
def test_complement(value: Any, rest: Any) -> None:
    assert complement(value) == rest


def test_complement_of_a_schedule() -> None:
    schedule = OmegaConf.create({"from": 0.2, "to": 0.9, "epochs": 3, "shape": "cosine"})
    assert complement(schedule) == {"from": 0.8, "to": 0.1, "epochs": 3, "shape": "cosine"}


def test_a_number_that_hides_the_presets_own_is_a_note_where_it_was_not_typed() -> None:
    loaded = composed("loss.hard.weight=1 loss.soft.weight=0.5")
    assert loaded.notes == ("alpha=0.9 is not used: no term refers to it",)
    assert loaded.run.alpha is None and loaded.run.loss["soft"]["weight"] == 0.5


def test_alpha_may_be_above_one_where_the_labels_do_not_share_it() -> None:
    assert composed("method=soft_feature alpha=5").run.alpha == 5


def test_the_experiment_of_the_tutorials() -> None:
    run = composed("experiment=tutorial_cifar10").run
    assert (run.dataset["name"], run.method, run.experiment) == ("cifar10", "tutorial", "tutorial_cifar10")
    assert (run.teacher.name, run.student.name) == ("cnn_tutorial", "cnn_tutorial_small")
    assert {name: term["weight"] for name, term in run.loss.items()} == {"hard": 1.0, "soft": 0.5}
    recipe = run.recipe.student
    assert (recipe.optimiser, recipe.epochs, recipe.batch, recipe.lr) == ("adam", 10, 64, 1e-3)


def test_an_override_beats_an_experiment() -> None:
    run = composed("experiment=tutorial_cifar10 dataset=fake recipe.student.epochs=1").run
    assert (run.dataset["name"], run.recipe.student.epochs, run.recipe.teacher.epochs) == ("fake", 1, 10)


@pytest.mark.parametrize(
    ("part", "method", "teacher", "transfer"),
    [
        ("whole", "kd", "cnn_digits", "all"),
        ("labelled_only", "kd", "cnn_digits", "labelled"),
        ("plain_answers", "hard_labels", "cnn_digits", "all"),
        ("self_taught", "kd", "cnn_digits_small", "all"),
    ],
)
def test_the_parts_of_the_default_run(part: str, method: str, teacher: str, transfer: str) -> None:
    run = composed(f"experiment=parts/{part}").run
    assert (run.method, run.teacher.name, run.transfer) == (method, teacher, transfer)
    assert run.experiment == f"parts/{part}"


def test_files_of_ones_own(tmp_path: Path) -> None:
    files = {
        "model/mine.yaml": "name: mine\nfamily: digits_cnn\nargs: {widths: [4]}\n",
        "dataset/mine.yaml": "defaults: [fake, _self_]\nname: mine\nrecipe: mine\nextra: 1\n",
        "recipe/mine.yaml": "defaults: [crd, _self_]\nstudent: {name: mine, epochs: 2}\n",
        "method/mine.yaml": "# @package _global_\ndefaults:\n  - /loss@loss.only: soft_targets\n"
        "temperature: 3\nloss: {only: {temperature: '${temperature}'}}\n",
        "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /method: mine\nseed: 9\n",
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    run = composed("student=mine dataset=mine experiment=mine dataset.extra=2", tmp_path).run
    assert (run.student.args, run.dataset["extra"], run.seed) == ({"widths": [4]}, 2, 9)
    assert (run.method, run.experiment) == ("mine", "mine")  # the files do not say it
    assert run.loss["only"]["temperature"] == 3
    assert (run.recipe.student.name, run.recipe.student.epochs, run.recipe.student.milestones[0]) == (
        "mine",
        2,
        150,
    )
    assert run.recipe.teacher.epochs == 240


def test_modules_of_ones_own_come_from_named_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "minepkg").mkdir()
    monkeypatch.chdir(tmp_path)
    run = composed("packages=[minepkg] dataset.source=minepkg.birds loss.soft.name=minepkg.my_loss").run
    assert (run.packages, run.dataset["source"]) == (["minepkg"], "minepkg.birds")


def test_every_key_of_the_schema_stands_in_the_file_with_its_default() -> None:
    written = yaml.safe_load((shipped() / "config.yaml").read_text())
    groups = {"dataset", "teacher", "student", "method", "loss", "recipe", "engine", "experiment"}
    keys = {field.name for field in fields(Written)} - groups - {"remarks"}
    assert set(written) - {"defaults", "hydra", *ROLES} == keys
    run = Written()
    own = {"teacher": TeacherModel(), "student": Model()}
    described = {
        role: {k: v for k, v in vars(model).items() if k not in ("name", "family")}
        for role, model in own.items()
    }
    assert {role: written[role] for role in ROLES} == described
    for key in set(written) - {"defaults", "hydra", *ROLES}:
        value = getattr(run, key)
        default = value if not hasattr(value, "__dict__") else dict(vars(value))
        if key == "reference":
            del default["family"]  # which follows from the model
        assert written[key] == default, key


def test_recipes_say_what_the_schema_knows() -> None:
    known = {field.name for field in fields(Recipe)}
    for entry in entries(shipped(), "recipe"):
        content = yaml.safe_load(entry.path.read_text())
        assert set(content) - {"labelled_share"} == {"teacher", "student"}, entry.name
        for role in ("teacher", "student"):
            assert set(content[role]) <= known and content[role]["name"] == entry.name


def test_every_file_says_what_it_is() -> None:
    for group in GROUPS:
        for entry in entries(shipped(), group):
            assert 0 < len(entry.description) <= 120, entry.path


def test_presets_do_not_put_themselves_first() -> None:
    """With `_self_` first a preset would lose its own weights to the losses' files."""
    for group in ("method", "experiment"):
        for entry in entries(shipped(), group):
            content = yaml.safe_load(entry.path.read_text()) or {}
            assert "_self_" not in content.get("defaults", [])[:-1], entry.path


def test_methods_compose_and_keep_their_weights() -> None:
    """As the jobs of one sweep."""
    methods = [entry.name for entry in entries(shipped(), "method")][::4]  # each takes a quarter of a second
    jobs = composed_jobs(parse(["-m", f"method={','.join(methods)}"]))[1]
    found = {each.run.method: each.run for each in jobs if isinstance(each, Loaded)}
    assert list(found) == methods
    for method, run in found.items():
        written = yaml.safe_load((shipped() / "method" / f"{method}.yaml").read_text())
        for term, keys in (written.get("loss") or {}).items():
            for key, value in keys.items():
                if not isinstance(value, str):
                    assert run.loss[term][key] == value, (method, term, key)


def test_the_call_signature_others_rely_on() -> None:
    from kdrun.commands.run import run

    assert list(inspect.signature(run).parameters) == ["run", "overrides", "quiet"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("seed=0,1 temperature=2,3.5", marks=pytest.mark.long),
        "'alpha={from: 0, to: 1, epochs: 2},0.5'",
        "recipe.student.lr=0.1,1 recipe.teacher.epochs=2 student.args.widths=[4],[4,8]",
        "method=kd,dkd seed=1,2",
        pytest.param("method=kd,soft seed=1,2 temperature=2,3", marks=pytest.mark.long),
        "alpha=0,0.3,1 temperature=2,3",
        pytest.param("temperature=2,'${seed}',3 seed=1,2,4", marks=pytest.mark.long),
        "alpha=0.5,0.5..0.9@3,0.7 note=2,null,x,'it is'",
        pytest.param(
            "recipe.student.betas=[0.1,0.2],[0.3,0.4] epochs=1,2,3 loss.hard.weight=1,2,3",
            marks=pytest.mark.long,
        ),
        pytest.param("loss.soft.weight=0.3,0.5 loss.hard.weight=1", marks=pytest.mark.long),
        pytest.param(
            "'loss.soft={weight: 0.3},{temperature: 2}' loss.soft.weight=0.7", marks=pytest.mark.long
        ),
        "loss.soft={weight:0.3},{temperature:2} loss.soft.weight=0.7,0.8",
        pytest.param("+student.args.widths=[4],[8]", marks=pytest.mark.long),
        "stages=[teacher],[teacher,student] teacher.seed=null,1 fresh=true,false",
        pytest.param("dataset.labelled=3,0.5 outputs_dir=a,b", marks=pytest.mark.long),
        "temperature='${seed}','${alpha}' seed=1,2",
        "~loss.hard loss.soft.temperature=1,2",
        "student=cnn_digits,cnn_digits_small student.seed=1,2 assistant=cnn_digits,null",
    ],
)
def test_a_job_is_the_run_of_its_overrides(line: str) -> None:
    """However jobs share what is composed for them."""
    typed = parse(["-m", *shlex.split(line)])
    jobs, runs = composed_jobs(typed)
    assert len(jobs) > 1
    assert len(runs) == len(jobs) and all(isinstance(loaded, Loaded) for loaded in runs)
    for place in (0, -1):  # every key has another value in the last job than in the first
        assert runs[place] == composed(shlex.join(jobs[place].overrides)), jobs[place]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "method=dkd loss.dkd.beta=2 seed=1 seed=2",
        "teacher=[cnn_digits,mlp] outputs_dir='a b'",
        "+loss@loss.hint=fitnet loss.hint.weight=7 ~loss.hard",
        "temperature='${seed}' teacher.args.widths=[4,8]",
        "temprature=3",
        "seed=1,2",
    ],
)
def test_what_tests_share_is_what_hydra_composes(line: str) -> None:
    """With `tests.shared_composing`, on which all tests but those of this file rely."""

    def asked() -> Loaded | str:
        try:
            return composed(line)
        except KdrunError as error:
            return str(error)

    whole = asked()
    with sharing():
        assert [asked(), asked()] == [whole, whole]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "dataset=cifar100 method=crd teacher=[resnet20,resnet32]",
        "experiment=pytorch_tutorial seed=3",
        "teacher=resnet50 student=resnet18 threads=2 runtime.jobs=auto recipe.student.lr=1",
    ],
)
def test_plain_values_become_what_omegaconf_makes_of_them(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = composed(line)

    def inexact(kind: object, value: object) -> None:
        raise Inexact

    monkeypatch.setattr("kdrun.config.load.exact", inexact)
    slow = composed(line)
    assert quick == slow and repr(quick) == repr(slow)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, True),
        (int, 1.0),
        (str, 1),
        (float, "1"),
        (str, "${a}"),
        (Model, {"args": {}, "x": 1}),
        (Model, {}),
    ],
)
def test_what_omegaconf_converts_or_refuses_is_left_to_it(kind: type, value: object) -> None:
    with pytest.raises(Inexact):
        exact(kind, value)


def test_jobs_that_differ_in_numbers_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    merge = OmegaConf.merge
    monkeypatch.setattr(OmegaConf, "merge", lambda *all: asked.append(all) or merge(*all))
    counts = []
    for seeds in (2, 30):
        asked.clear()
        assert len(composed_jobs(parse(["-m", f"seed=range({seeds})", "temperature=2,3"]))[0]) == 2 * seeds
        counts.append(len(asked))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("seed=1,abc", "seed=abc: must be a whole number"),
        ("alpha=0.5,1.5", "alpha=1.5: must be between 0 and 1"),
        ("temprature=1,2", "temprature=2: no such key. Nearest: temperature"),
        ("loss.dkd.beta=1,2", "loss.dkd: no such key"),
        ("method=kd,fitnet temperature=2,4", "temperature=4: no term of method fitnet uses a temperature"),
        ("+foo=1,2", "foo=2: no such key"),
        ("transfer=all,maybe", "transfer=maybe: no such choice"),
        ("temperature='${foo}','${bar}'", "temperature=$\\{bar\\}: refers to what is not there"),
        ("recipe=quick,quik", "recipe=quik: no such recipe"),
        ("seed=0,null", "seed=null: must not be null"),
        ("seed=0,1,2.5", "seed=2.5: must be a whole number"),
        ("seed=0,1,-1", "seed=-1: must be"),
        ("temperature=2,3,0", "temperature=0: must be"),
        ("method=fitnet temperature=null,4,5", "temperature=5: no term of method fitnet uses a temperature"),
        ("temperature=1,2,'${foo}'", "temperature=$\\{foo\\}: refers to what is not there"),
    ],
)
def test_a_job_that_is_wrong_is_named_as_a_run_would_be(line: str, problem: str) -> None:
    typed = parse(["-m", *shlex.split(line)])
    last = composed_jobs(typed)[1][-1]
    assert isinstance(last, KdrunError) and str(last).startswith(problem)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "hydra/launcher=joblib",
            "Hydra only composes here. Where models are trained: engine=NAME",
        ),
        ("hydra.launcher.n_jobs=2", "Where models are trained: engine=NAME"),
        ("hydra/sweeper=optuna", "kdrun -m key=a,b runs all combinations, kdrun tune searches"),
        ("+hydra.sweeper.n_trials=3", "kdrun -m key=a,b runs all combinations"),
        ("hydra.sweeper.params.seed=1", "the values of a sweep are typed with -m"),
        ("hydra.run.dir=x", "kdrun makes its own folders. To choose where: outputs_dir=DIR"),
        ("hydra.sweep.dir=x", "kdrun makes its own folders."),
        ("++hydra.sweep.subdir=x", "kdrun makes its own folders."),
        (
            "hydra.job.chdir=true",
            "kdrun stays where it is started. To choose where outputs go: ",
        ),
        ("hydra.mode=MULTIRUN", "a sweep is started by -m: kdrun -m key=a,b"),
        ("hydra.verbose=true", "Hydra only composes here, so this key has no effect"),
    ],
)
@pytest.mark.parametrize("many", [[], ["-m"]])
def test_hydras_own_keys_are_answered_by_what_to_type(override: str, problem: str, many: list[str]) -> None:
    with pytest.raises(KdrunError) as error:
        (composed_jobs if many else single)(parse([*many, override]))
    assert problem in str(error.value)


def test_where_hydra_looks_for_files_is_left_to_hydra(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("defaults: [crd, _self_]\nstudent: {name: mine}\n")
    assert composed(f"hydra.searchpath=[file://{tmp_path}] recipe=mine").run.recipe.student.name == "mine"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "hydra: {callbacks: {x: {_target_: os.system}}}\n",
            "hydra.callbacks.x._target_: Hydra only composes",
        ),
        ("defaults: [{override /hydra/launcher: mine}]\n", "hydra/launcher=mine: Hydra only composes here"),
    ],
)
def test_what_a_file_gives_hydra_to_run_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    for path, text in (("experiment/mine.yaml", content), ("hydra/launcher/mine.yaml", "_target_: mine\n")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(f"# @package {'_global_' if 'exp' in path else '_group_'}\n{text}")
    with pytest.raises(KdrunError, match=problem):
        composed("experiment=mine", tmp_path)


def test_names_and_paths_of_digits_are_text(tmp_path: Path) -> None:
    run = composed("dataset=imagefolder dataset.name=2024 dataset.path=007 outputs_dir=1e3 data_dir=true").run
    assert (run.dataset["name"], run.dataset["path"]) == ("2024", "007")
    assert (run.outputs_dir, run.data_dir) == ("1e3", "true")
    for path, text in (
        ("dataset/2023.yaml", "defaults: [fake, _self_]\nname: 2023\nrecipe: quick\npath: 5\n"),
        ("experiment/2024.yaml", "# @package _global_\ndefaults:\n  - override /dataset: '2023'\nseed: 9\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    run = composed("experiment=2024", tmp_path).run
    assert (run.dataset["name"], run.dataset["path"], run.seed) == ("2023", "5", 9)
    assert composed("dataset=2023", tmp_path).run.dataset["name"] == "2023"


@pytest.mark.parametrize("last", ["tags: *e", "tags: &x [*x]"])
def test_aliases_without_end_are_named(tmp_path: Path, last: str) -> None:
    names = "abcde"
    lines = ["a: &a [" + ",".join("1" * 10) + "]"]
    lines += [f"{b}: &{b} [" + ",".join([f"*{a}"] * 10) + "]" for a, b in pairwise(names)]
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "laughs.yaml"
    file.write_text("\n".join(["# @package _global_", *lines, last]) + "\n")
    with pytest.raises(KdrunError, match="its aliases stand for more than 100,000 values"):
        composed("experiment=laughs", tmp_path)


BAD = {
    "own": ("defaults: [own]", "experiment=own: a defaults list leads back to its own file"),
    "params": (
        "hydra: {sweeper: {params: [1, 2]}}",
        "params.yaml: params must be a mapping: hydra: {",
    ),
    "sweeper": ("hydra: {sweeper: 5}", "sweeper.yaml: sweeper must be a mapping"),
    "number": ("# @package recipe\n5", "experiment=number: Invalid loaded object type: int"),
    "recipe": ("# @package _global_\nrecipe: 5", "experiment=recipe: Merge error: int is not a subclass"),
    "items": ("# @package _global_\n- a", "experiment=items: has a list or a value where a mapping"),
    "latin": ("note: \udcff", "experiment=latin: is not a text in UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_without_a_key_name_the_file(tmp_path: Path, name: str) -> None:
    text, problem = BAD[name]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / f"{name}.yaml").write_text(text, errors="surrogateescape")
    with pytest.raises(KdrunError) as raised:
        composed(f"experiment={name}", tmp_path)
    assert problem in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["method", "teacher", "dataset", "experiment", "+experiment"])
def test_a_name_that_no_file_can_have_is_one_line(key: str) -> None:
    with pytest.raises(KdrunError, match=f"no such {key.lstrip('+')}") as raised:
        composed(f"{key}={'a' * 100_000}")
    assert len(str(raised.value)) < 400
