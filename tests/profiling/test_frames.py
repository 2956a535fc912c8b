"""What frames are called."""

import json
import os
import sys
import threading

import numpy as np
import pytest

from shmetrics.profiling.frames import EVERYTHING, Frame, folded, frame, module_of


@pytest.mark.parametrize(
    ("filename", "module", "expected"),
    [
        ("/srv/app/models.py", "app.models", Frame("app.models:run")),
        ("/srv/train.py", "__main__", Frame("train:run")),
        ("/srv/train.py", "__mp_main__", Frame("train:run")),
        (
            "/venv/lib/python3.11/site-packages/torch/nn/module.py",
            "torch.nn.module",
            Frame("torch.nn.module:run", "torch"),
        ),
        ("/usr/lib/python3/dist-packages/six.py", "six", Frame("six:run", "six")),
        ("/usr/lib/python3.12/json/decoder.py", "json.decoder", Frame("json.decoder:run", "json")),
        ("/usr/lib/python3.13t/threading.py", "threading", Frame("threading:run", "threading")),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap", Frame("importlib._bootstrap:run", "importlib")),
        ("/home/me/shmetrics/shmetrics/writer.py", "shmetrics.writer", Frame("shmetrics.writer:run", "shmetrics")),
        ("<string>", "app.models", Frame("app.models:run")),
    ],
)
def test_a_frame_is_one_s_own_unless_its_file_is_a_library_s(filename, module, expected):
    assert frame(filename, "run", module) == expected


def test_the_libraries_of_this_very_interpreter_are_known_as_such():
    for module, package in (
        (json.decoder, "json"),
        (threading, "threading"),
        (np.ma.core, "numpy"),
        (pytest, "pytest"),
    ):
        assert frame(module.__file__, "run", module.__name__).package == package
    assert frame(__file__, "run", __name__).package == ""


def test_a_name_without_end_is_cut():
    assert len(frame("/srv/app.py", "f" * 1000, "app").name) == 200


def test_a_module_is_called_as_it_is_imported_by_the_longest_of_the_directories():
    roots = ["", "/srv", "/srv/project/", "/venv/lib/python3.11/site-packages"]
    assert module_of("/srv/project/app/models.py", roots) == "app.models"
    assert module_of("/srv/project/app/__init__.py", roots) == "app"
    assert module_of("/srv/projects/app.py", roots) == "projects.app"
    assert module_of("/other/lib/python3.12/site-packages/torch/nn/module.py", roots) == "torch.nn.module"
    assert module_of("/elsewhere/deep/app.py", roots) == "app"
    assert module_of(json.decoder.__file__, sys.path) == "json.decoder"
    assert module_of(os.path.abspath(__file__), [os.getcwd()]) == __name__


STACK = [
    Frame("gunicorn.app:run", "gunicorn"),
    Frame("gunicorn.sync:handle", "gunicorn"),
    Frame("app:predict"),
    Frame("app:predict"),
    Frame("numpy.linalg:solve", "numpy"),
    Frame("app:callback"),
    Frame("numpy.linalg:solve", "numpy"),
]


def test_what_runs_in_one_library_is_one_frame_and_one_s_own_recursion_is_not():
    assert folded(STACK) == ("gunicorn", "app:predict", "app:predict", "numpy", "app:callback", "numpy")


def test_a_package_that_is_expanded_shows_its_functions():
    assert folded(STACK, {"gunicorn"})[:3] == ("gunicorn.app:run", "gunicorn.sync:handle", "app:predict")
    assert folded(STACK, {EVERYTHING}) == tuple(each.name for each in STACK)
