"""From a `dataset` node to a split set, for every configuration that is shipped and for every mistake."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch
import yaml

from kdrun.config.choices import DATASET_HINTS, DATASET_KEYS, DATASET_OPTIONS
from kdrun.data.images import Part, Raw
from kdrun.data.load import SOURCES, fingerprint, headline, load
from kdrun.data.views import NAMES, make_views
from kdrun.errors import KdrunError

from .test_sources import publish_cifar, write_cifar, write_mnist

CONF = Path(__file__).parents[2] / "conf" / "dataset"
SHIPPED = sorted(path.stem for path in CONF.glob("*.yaml"))


def node(name, **changes):
    return {**yaml.safe_load((CONF / f"{name}.yaml").read_text()), **changes}


def digits(**changes):
    return load(node("digits_few", **changes), Path("nowhere"))


def test_the_shipped_sets():
    names = {"digits", "digits_few", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "fake"}
    assert set(SHIPPED) == names | {"imagefolder", "imagenet", "torch_dataset", "merged"}
    assert sorted(SOURCES.names()) == [
        "digits",
        "fake",
        "imagefolder",
        "merged",
        "torch_dataset",
        "torchvision",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_lists_every_key_with_a_comment(name):
    this = node(name)
    read = importlib.import_module(f"kdrun.data.{this['source']}").read
    own = list(inspect.signature(read).parameters)[1:]
    # Hints for methods are taken out by the configuration.
    assert sorted(set(this) - set(DATASET_HINTS)) == sorted([*DATASET_KEYS, *DATASET_OPTIONS, *own])
    views = [key for make in NAMES.values() for key in list(inspect.signature(make).parameters)[1:]]
    assert list(this["views"]) == ["name", *dict.fromkeys(views)]
    first, *lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert first.count(" | ") == 1
    bare = [line for line in lines if line and "#" not in line and not line.startswith(("name:", "  name:"))]
    assert bare == []
    assert this["name"] == name
    assert this["headline"] in ("last", "val_best", "auto")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_takes_each_of_its_views(name):
    channels = {"fake": 3, "svhn": 3, "cifar10": 3, "cifar100": 3, "imagefolder": 3}.get(name, 1)
    for views in NAMES:
        make_views({**node(name)["views"], "name": views}, (channels, 8, 8))


def test_the_default_set_is_as_described():
    found = digits()
    assert [len(part.images) for part in (found.train, found.validation, found.test)] == [600, 197, 1000]
    known = found.train.labels[found.train.labels >= 0]
    assert known.bincount().tolist() == [6] * 10
    assert int((found.train.labels == -1).sum()) == 540
    assert found.validation.labels.min() >= 0
    assert (found.mean, found.std, found.white) == ((0.0,), (1.0,), 16.0)
    assert headline("auto", found) == "last"
    assert node("digits_few")["headline"] == "last"


def test_parts_by_fraction():
    found = digits(train=None, validation=0.25, test=0.5, labelled=None)
    assert [len(part.images) for part in (found.train, found.validation, found.test)] == [450, 449, 898]
    assert found.test.images.equal(digits(train=None, validation=0, test=898).test.images)


def test_all_digits_labelled():
    found = load(node("digits"), Path("nowhere"))
    assert found.train.labels.min() >= 0
    assert headline(node("digits")["headline"], found) == "val_best"
    assert found.train.images.equal(digits().train.images)


def test_a_set_with_its_own_test_part(tmp_path):
    written = write_mnist(tmp_path, n=(10, 4))
    found = load(node("mnist", validation=2), tmp_path)
    assert [len(part.images) for part in (found.train, found.validation, found.test)] == [8, 2, 4]
    assert found.test.images[:, 0].equal(torch.from_numpy(written[1][0]))
    assert load(node("mnist", validation=0), tmp_path).train.images.shape == (10, 1, 28, 28)


def test_channels_have_their_own_mean(tmp_path, monkeypatch):
    write_cifar(tmp_path)
    publish_cifar(monkeypatch, tmp_path)
    found = load(node("cifar100", validation=0), tmp_path)
    assert found.mean == (0.5071, 0.4867, 0.4408)
    assert headline("auto", found) == "last"
    with pytest.raises(KdrunError, match=r"dataset\.headline=val_best: there is no validation part"):
        headline("val_best", found)


def test_fake_images_take_all_their_arguments():
    found = load(node("fake", size=8, channels=1, classes=5, views={"name": "none"}), Path("nowhere"))
    assert found.train.images.shape[1:] == (1, 8, 8)
    assert [len(part.images) for part in (found.train, found.validation, found.test)] == [100, 100, 200]
    assert found.mean == (0.5,)


def test_parts_and_labels_have_seeds_of_their_own():
    base, labels, parts = digits(), digits(label_seed=1), digits(split=1)
    assert labels.train.images.equal(base.train.images)
    assert labels.test.images.equal(base.test.images)
    assert not labels.train.labels.equal(base.train.labels)
    assert not parts.test.images.equal(base.test.images)


def test_a_fingerprint_is_equal_where_the_data_is():
    base = digits().fingerprint
    assert base == digits().fingerprint
    assert len(base) == 64
    assert base == digits(mean=0.5, views={"name": "none"}).fingerprint
    others = [
        digits(label_seed=1),
        digits(split=1),
        digits(labelled=7),
        digits(validation=196),
        digits(train=599),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 6
    file_order = digits(labelled=None)
    assert file_order.fingerprint == digits(labelled=1.0).fingerprint


def test_a_fingerprint_sees_every_pixel_label_and_boundary():
    part = digits().train
    base = fingerprint([part], 10)
    pixels, labels = part.images.clone(), part.labels.clone()
    pixels[-1, 0, 7, 7] += 1
    labels[-1] = 9 - labels[-1]
    reshaped = part.images.view(600, 1, 4, 16)
    halves = [type(part)(*(t[rows] for t in part)) for rows in (slice(300), slice(300, None))]
    changed = [
        [part._replace(images=pixels)],
        [part._replace(labels=labels)],
        [part._replace(images=reshaped)],
    ]
    assert base not in {fingerprint(parts, 10) for parts in (*changed, halves)}
    assert base != fingerprint([part], 11)


def test_an_index_file_gives_the_labels(tmp_path, monkeypatch):
    known = load(node("digits", validation=0, test=1), Path("nowhere"))
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(str(n) for n in range(100, 130)))
    found = digits(labelled=str(file), validation=0, test=1, split=0)
    shown = (found.train.labels >= 0).nonzero().flatten()
    assert len(shown) == 30
    assert found.train.labels[shown].equal(known.train.labels[shown])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"source": "digit"},
            r"dataset.source=digit: no such source of images. Nearest: digits",
        ),
        (
            {"source": "split"},
            r"dataset.source=split: the module must have a function read\(data_dir, ...\); it has none. Nea",
        ),
        ({"source": "no.such"}, "dataset.source=no.such: no such source"),
        ({"size": 3}, r"dataset.size: source digits has no such argument. Nearest: "),
        ({"source": "fake", "per_class": 1.5}, "dataset.per_class=1.5: a whole number is needed"),
        ({"source": "fake", "classes": True}, "dataset.classes=True: a whole number is needed"),
        ({"source": "torchvision"}, "dataset.variant: source torchvision needs it"),
        ({"test": None}, "dataset.test: this data set has no test part of its own"),
        ({"validation": None}, "dataset.validation: this data set has no validation part of its own"),
        ({"validation": 800}, "dataset.validation=800: must be between 0 and 797"),
        ({"test": 0.9, "validation": 0.2}, "dataset.validation=0.2|359: must be between 0 and 180"),
        ({"labelled": 61}, r"dataset.labelled=61: class \d has \d+ training images, fewer than 61"),
        ({"labelled": 0.001}, "dataset.labelled=0.001: the labelled images are all of one class"),
        ({"mean": [0, 0]}, "dataset.mean.*one for each of 1 channels"),
    ],
)
def test_mistakes_are_one_line(changes, problem):
    with pytest.raises(KdrunError, match=problem):
        digits(**changes)


def test_a_reduced_test_part(tmp_path, monkeypatch):
    import kdrun.data.digits as source

    images, labels = torch.arange(40 * 16).remainder(251).byte().view(40, 1, 4, 4), torch.arange(40) % 2
    whole = Part(images, labels)
    monkeypatch.setattr(source, "read", lambda data_dir: Raw(whole, whole, ("a", "b")))
    plain = node("digits", train=10, validation=4, test=None, views={"name": "none"})
    full, less = (load({**plain, "test": test}, tmp_path) for test in (None, 8))
    assert (full.test_of, less.test_of, len(less.test.labels)) == (None, 40, 8)
    assert less.test.labels.bincount().tolist() == [4, 4]
    assert less.fingerprint == full.fingerprint and less.train.images.equal(full.train.images)
    chosen = less.test.images
    assert all((image == images).flatten(1).all(1).any() for image in chosen)
    other_split = load({**plain, "test": 0.2, "split": 3}, tmp_path)
    assert other_split.test.images.equal(chosen)
    for count in (40, 41):
        with pytest.raises(KdrunError, match=rf"dataset\.test={count}: its own test part has 40 images"):
            load({**plain, "test": count}, tmp_path)


def test_a_source_with_three_parts_and_larger_images(monkeypatch):
    import kdrun.data.digits as source

    images, labels = torch.arange(20 * 36).remainder(251).byte().view(20, 1, 6, 6), torch.arange(20) % 2
    whole = Part(images, labels)
    monkeypatch.setattr(
        source, "read", lambda data_dir: Raw(whole, Part(images[:4], labels[:4]), ("a", "b"), whole, seen=4)
    )
    plain = node("digits", train=10, validation=None, test=None, views={"name": "none"})
    found = load(plain, Path("nowhere"))
    assert found.image_shape == found.train.images.shape[1:] == (1, 4, 4)
    assert found.validation.images.equal(images[:, :, 1:5, 1:5])
    assert len(found.test.images) == 4
    cut = load({**plain, "views": {"name": "resized_crop"}}, Path("nowhere"))
    assert (cut.image_shape, cut.train.images.shape) == ((1, 4, 4), (10, 1, 6, 6))
    assert cut.fingerprint != found.fingerprint
    with pytest.raises(KdrunError, match=r"dataset\.validation=5: this data set has a validation part"):
        load({**plain, "validation": 5}, Path("nowhere"))


OWN = """
import torch
from kdrun.config.choices import DATASET_HINTS, DATASET_KEYS
from kdrun.data.images import Part, Raw

def read(data_dir, shade=0, **rest):
    labels = torch.arange(2).repeat(10)
    images = torch.full((20, 1, 4, 4), shade, dtype=torch.uint8)
    changes = {"float": lambda: images.float(), "short": lambda: images[:5]}
    changes["last"] = lambda: torch.zeros(20, 6, 6, 3, dtype=torch.uint8)
    images = changes[rest["fault"]]() if rest.get("fault") in changes else images
    labels = labels + 1 if rest.get("fault") == "label" else labels
    return Raw(Part(images, labels), None, ("dark", "light"))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's package with a source in it, and one that fails when imported."""
    (tmp_path / "own_images").mkdir()
    (tmp_path / "own_images" / "__init__.py").write_text("")
    (tmp_path / "own_images" / "shades.py").write_text(OWN)
    (tmp_path / "own_images" / "broken.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield node("digits", source="own_images.shades", test=4, validation=2)
    for name in [name for name in sys.modules if name.startswith("own_images")]:
        del sys.modules[name]


def test_a_source_of_the_users_own(own):
    found = load({**own, "shade": 7}, Path("nowhere"))
    assert len(found.train.images) == 14
    assert found.train.images.unique().tolist() == [7]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("float", "uint8"),
        ("short", "one label for each image"),
        ("last", r"images must be \(N, C, H, W\); those of shape \(20, 6, 6, 3\) have channels last"),
        ("label", r"labels must be -1 \(unlabelled\) or 0 to 1"),
    ],
)
def test_a_source_of_the_users_own_that_gives_something_else(own, fault, problem):
    with pytest.raises(KdrunError, match=f"dataset.source=own_images.shades: .*{problem}"):
        load({**own, "fault": fault}, Path("nowhere"))


def test_a_broken_import_in_a_users_source_is_not_hidden(own):
    with pytest.raises(KdrunError, match=r"ModuleNotFoundError: .*a_module_that_is_not_there.*\(broken"):
        load({**own, "source": "own_images.broken"}, Path("nowhere"))


def test_an_error_of_the_system_in_a_users_source_names_it(own, tmp_path):
    (tmp_path / "own_images" / "gone.py").write_text("def read(data_dir):\n    raise OSError('disk')\n")
    with pytest.raises(
        KdrunError, match=r"dataset.source=own_images.gone: OSError: disk \(gone.py, line 2\)"
    ):
        load({**own, "source": "own_images.gone"}, Path("nowhere"))
