"""Several teachers: what may be typed and written, and the one line for what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.config.written_models import as_read, teachers
from kdrun.errors import KdrunError
from tests.config.composed import composed

TWO = "'teacher=[cnn_digits,mlp]'"


def test_a_list_names_teachers_by_their_models() -> None:
    run = composed("'teacher=[cnn_digits,{name: cnn_digits, seed: 3, weight: 2},mlp]'").run
    assert list(run.teachers) == ["cnn_digits", "cnn_digits_2", "mlp"]
    assert [each.seed for each in run.teachers.values()] == [None, 3, None]
    assert run.teachers["cnn_digits_2"].weight == 2 and run.teacher == run.teachers["cnn_digits"]
    assert {name: recipe.epochs for name, recipe in run.recipe.teachers.items()} == {
        "cnn_digits": 40, "cnn_digits_2": 40, "mlp": 20,
    }  # fmt: skip


def test_each_teacher_of_a_list_has_a_name_of_its_own() -> None:
    """Also if a model is called as the second of another would be."""

    def names(*models: str) -> list[str]:
        return list(teachers(list(models), lambda name, key: {"name": name}))

    assert names("a", "a_2", "a", "a") == ["a", "a_2", "a_3", "a_4"]
    assert names("a", "a", "a_2") == ["a", "a_3", "a_2"]
    assert names("a.b", "a-b") == ["a_b", "a_b_2"]


@pytest.mark.parametrize(
    "name",
    ["student", "control", "control_self", "plain", "longer", "reference", "assistant1", "generation2",
     "teacher", "teachers", "peer", "assistant"],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_a_teacher_is_not_called_as_another_model_of_the_run(name: str, listed: bool) -> None:
    written = [name, "mlp"] if listed else {"low": "mlp", name: "mlp"}
    with pytest.raises(KdrunError, match=f"^teachers.{name}: is the name of another column"):
        teachers(written, lambda name: {"name": name})


def test_a_number_and_its_text_are_one_name() -> None:
    with pytest.raises(KdrunError, match="two teachers have one name"):
        teachers({1: "mlp", "1": "cnn_digits"}, lambda name: {"name": name})


def test_a_list_of_one_is_one_teacher() -> None:
    assert composed("'teacher=[mlp]'").run == composed("teacher=mlp").run


def test_teachers_that_were_chosen_are_not_those_of_the_data_set() -> None:
    assert composed("").run.remarks.by_data_set == ["teacher", "student"]
    assert composed(TWO).run.remarks.by_data_set == ["student"]
    assert composed("experiment=merge_digits").run.remarks.by_data_set == []


def test_short_keys_are_for_all_teachers() -> None:
    run = composed(f"{TWO} epochs=3").run
    assert [own.epochs for own in run.recipe.teachers.values()] == [3, 3] and run.recipe.student.epochs == 3


def test_keys_of_a_mapping_can_be_typed() -> None:
    run = composed("experiment=merge_digits teachers.low.seed=4 'teachers.high.classes=[5,6,7]'").run
    assert run.teachers["low"].seed == 4 and run.teachers["high"].classes == [5, 6, 7]
    assert composed("experiment=merge_digits teachers=null teacher=mlp").run.teacher.name == "mlp"


def test_a_term_takes_the_name_of_a_teacher() -> None:
    assert composed(f"{TWO} loss.soft.teacher=mlp").run.loss["soft"]["teacher"] == "mlp"


def test_overrides_as_hydra_reads_them() -> None:
    given = ["teacher=[a,b]", "teacher=a", "loss.hint.teacher=a", "loss.hint.weight=1", "teachers.a.seed=1"]
    assert as_read(given[:4]) == [
        "teachers=[a,b]",
        "teacher=a",
        "++loss.hint.teacher=a",
        "loss.hint.weight=1",
    ]
    assert as_read(given[4:]) == ["++teachers.a.seed=1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"{TWO} teachers.mlp.seed=3",
            r"teachers.mlp.seed=3: is written in the list: 'teacher=\[{name: mlp,",
        ),
        (
            f"{TWO} teacher.seed=3",
            "teacher.seed=3: there are several teachers; of one of them: teachers.cnn_digits",
        ),
        (
            "experiment=merge_digits teacher=mlp",
            r"teacher=mlp: there are several teachers \(low, high\). For one",
        ),
        ("'teacher=[cnn_digits,nix]'", "teachers.nix=nix: no such model"),
        ("teacher=[]", r"teachers=\[\]: names no teacher. For the one of the data set: teachers=null"),
        ("'teachers={}'", "teachers={}: names no teacher"),
        ("'teacher=[\"\"]'", "teachers=: the name of a model is needed"),
        ("'teacher=[[mlp]]'", r"teachers.__mlp__=\['mlp'\]: the name of a model is needed"),
        ("student=[]", r"student=\[\]: one student is meant. All: kdrun list models"),
        ("'teacher=[{seed: 3}]'", "the name of a model is needed"),
        ("'teacher=[{name: mlp, classs: [1]},mlp]'", "teachers.mlp.classs=.*no such key"),
        ("teachers=5", "teachers=5: a list of models, or a mapping"),
        (f"{TWO} method=dml", r"peer=true: goes with one teacher; there are 2 \(cnn_digits, mlp\)"),
        (f"{TWO} method=simkd", "student.reuse_classifier=true: goes with one teacher"),
        ("combine.weights=energy", "combine: there is one teacher, so nothing is combined"),
        (f"{TWO} combine.weights=sure", "combine.weights=sure: no such choice"),
        (f"{TWO} combine.least=0.5", "combine.weights=auto does not know how sure a teacher is"),
        (f"{TWO} combine.weights=entropy combine.least=2", "combine.least=2.0: must be between 0 and 1"),
        ("'teacher=[mlp,{name: mlp, weight: 0}]'", "teachers.mlp_2.weight=0.0: must be above 0"),
        ("'+teacher.classes=[1]'", "teacher.classes=.*two classes or more"),
        ("teacher.classes=nix.txt", "teacher.classes=nix.txt: no such file"),
        ("'+teacher.class_map={a: b}'", "teacher.class_map: is for a teacher that is loaded"),
        ("'+teacher.normalisation={mean: 0}'", "must be {mean: ..., std: ...}"),
        ("'+teacher.normalisation={mean: 0, std: 0}'", "normalisation.std=0: must be a number above 0"),
    ],
)
def test_what_cannot_be_meant(line: str, message: str) -> None:
    with pytest.raises(KdrunError, match=message) as caught:
        composed(line)
    assert "\n" not in str(caught.value)


def test_classes_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("0\n1\n")
    assert composed(f"teacher.classes={file}").run.teacher.classes == str(file)


def test_a_data_set_of_its_own_is_written_out_with_the_recipe_that_belongs_to_it() -> None:
    run, there = composed("dataset=fake teacher.dataset=digits").run, composed("dataset=digits").run
    assert run.teacher.dataset is not None and run.recipe.teacher == there.recipe.teacher
    assert {k: v for k, v in run.teacher.dataset.items() if v is not None} == {
        k: v for k, v in there.dataset.items() if v is not None
    }
    assert run.recipe.student == composed("dataset=fake").run.recipe.student
    trial = composed("quick=true 'teacher=[mlp,{name: mlp, dataset: {validation: 0}}]'").run
    assert trial.teachers["mlp_2"].dataset["name"] == "digits_few-quick" == trial.dataset["name"]
    assert trial.teachers["mlp"].dataset is None
