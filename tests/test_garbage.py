import gc
import subprocess
import sys

import pytest

from kdrun.garbage import uncollected


def test_cycles_are_searched_for_again_after_the_block():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_no_block_turns_the_search_on_where_it_was_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_command_does_not_search_for_cycles_at_its_end():
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); import kdrun.__main__"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr


WATCHED = """
import builtins, gc, sys
real = builtins.__import__
def watched(name, *rest):
    if name == "torch":
        print("searches" if gc.isenabled() else "does not search")
        sys.exit()
    return real(name, *rest)
builtins.__import__ = watched
import kdrun.__main__
"""


@pytest.mark.parametrize("typed", ["", "-m seed=0,1", "check", "check -m teacher=cnn_digits", "table"])
def test_torch_is_imported_without_a_search_for_cycles(typed):
    process = [sys.executable, "-c", WATCHED, *typed.split()]
    done = subprocess.run(process, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["does not search"], done.stderr
