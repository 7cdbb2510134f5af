"""Values that no key expects, and words that are no override."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from kdrun.cli import _failed
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.plan.ground import Grounds
from kdrun.plan.plan import make_plan
from tests.attack.judged import Ended, ended
from tests.config.composed import composed

VALUES = (
    *("nan", "inf", "-inf", "1e400", "-1", "0", "1", "2.5", "-0.0", "1e-320", "9" * 40, "-" + "9" * 40),
    *("true", "false", "null", "none", "''", "' '", "???", "text", "a.b", "a:b", "../..", "/dev/null", "/"),
    *("[]", "[[]]", "[[1]]", "[null]", "[nan,1]", "{}", "{a:1}", "{from:0,to:nan,epochs:3}", "[1,2,3,4,5]"),
    *("{from:1,to:0}", "{from:0,to:1,epochs:0,shape:linear}", "${seed}", "${nothing}", "${", "$HOME", "~"),
    *(
        "it's",
        "日本",
        "jörg",
        "run(1)",
        "a b",
        "a,b",
        "a=b",
        "x" * 3000,
        "\x1b[31mred",
        "\n",
        "\u202e",
        "0x10",
    ),
    *(
        "cnn_digits",
        "kd",
        "digits",
        "mnist",
        "auto",
        "cpu",
        "mine.losses",
        "os",
        "os:system",
        "!!python/name:os",
    ),
)

WORDS = (
    *(
        "=",
        "a",
        "=5",
        "+",
        "~",
        "++",
        "--",
        "-",
        "+=1",
        "~seed",
        "~loss.hard",
        "~teacher",
        "seed",
        "seed=",
        "--help=1",
    ),
    *(
        "+loss.own={name: kd}",
        "+loss.own.weight=1",
        "+loss@loss.own=kd",
        "+loss@loss.type=dkd",
        "loss=null",
        "loss={}",
    ),
    *(
        "teacher=[a,b]",
        "assistant=[resnet8,[a]]",
        "assistant={name: 5}",
        "generations=-1",
        "++seed=1",
        "hydra=x",
    ),
    *(
        "hydra.run.dir=/x",
        "experiment=[a]",
        "sweep=x",
        "recipe=none",
        "seed=1 seed=2",
        "'",
        '"',
        "\\",
        "a=b=c",
    ),
)


@cache
def keys() -> tuple[str, ...]:
    """All keys of the default run, and those of its groups."""
    return tuple(_keys(asdict(composed().run)))


def _keys(value: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, inner in value.items():
        key = f"{above}{name}"
        yield key
        if isinstance(inner, Mapping):
            yield from _keys(inner, f"{key}.")


SAFE = ("outputs_dir", "data_dir")
"""Keys whose values are folders: other attacks are for those."""


def attack(draw: random.Random, grounds: Grounds) -> Ended:
    """Plans a run with one to three drawn words."""
    words = []
    for _ in range(draw.randint(1, 3)):
        key, value = draw.choice(keys()), draw.choice(VALUES)
        prefix = draw.choice(("", "", "", "", "+", "++"))
        words.append(f"{prefix}{key}={value}" if draw.random() < 0.85 else draw.choice(WORDS))
    return planned([word for word in words if word.lstrip("+").partition("=")[0] not in SAFE], grounds)


def planned(words: list[str], grounds: Grounds) -> Ended:
    """Plans a run, which checks everything that is known before training."""

    def act() -> int:
        try:
            make_plan(single(parse(words)).run, grounds)
        except Exception as error:
            return _failed(error)
        return 0

    return ended(words, act)
