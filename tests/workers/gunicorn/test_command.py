"""Which commands are gunicorn, and how they and their environment change."""

import os
import shlex

import pytest

from shmetrics.workers.gunicorn.command import measured


def measured_command(*command):
    return measured(command, {})[0]


def option():
    (given,) = shlex.split(measured(["true"], {})[1]["GUNICORN_CMD_ARGS"])
    return given


def test_the_option_names_a_file_that_there_is():
    flag, path = option().split("=")
    assert flag == "--config"
    assert os.path.isfile(path)


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn app:app",
        "gunicorn app:app -w 4 -c conf.py",
        "/venv/bin/gunicorn app:app",
        "gunicorn3 app:app",
        "python -m gunicorn app:app",
        "python3.11 -X dev -W error -u -m gunicorn app:app",
        "/usr/bin/python3 -m gunicorn.app.wsgiapp app:app",
        "python /venv/bin/gunicorn app:app",
    ],
)
def test_the_command_line_of_a_gunicorn_gets_it_last_so_that_it_counts(command):
    assert measured_command(*command.split()) == [*command.split(), option()]


def test_it_goes_before_what_cannot_be_an_option():
    assert measured_command("gunicorn", "-w", "4", "--", "app:app") == [
        "gunicorn",
        "-w",
        "4",
        option(),
        "--",
        "app:app",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "python train.py -m gunicorn",
        "python -m pip install gunicorn",
        "python -m",
        "python",
        "python -X",
        "pip install gunicorn",
        "gunicornc show workers",
        "uvicorn app:app",
        "sh -c gunicorn",
    ],
)
def test_no_other_command_line_is_touched(command):
    assert measured_command(*command.split()) == command.split()


def test_the_arguments_in_the_environment_go_on_after_those_of_the_user():
    environment = measured(["true"], {"GUNICORN_CMD_ARGS": "-w 3 --name 'a b'", "HOME": "/"})[1]
    assert shlex.split(environment["GUNICORN_CMD_ARGS"]) == ["-w", "3", "--name", "a b", option()]
    assert environment["HOME"] == "/"
