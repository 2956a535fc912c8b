"""Programs that are run for alerts."""

import json
import sys
import time

import pytest

from shmetrics.exporters.alerts import Command
from tests.exporters.alerts.receivers import alert


def python(code, *arguments, **options):
    return Command([sys.executable, "-c", code, *arguments], **options)


def test_it_gets_the_alert_on_its_input_and_in_its_environment(tmp_path):
    path = tmp_path / "told"
    code = (
        "import os, sys\n"
        "told = sys.stdin.read() + chr(10) + os.environ['SHMETRICS_ALERT_MESSAGE']\n"
        "open(sys.argv[1], 'w').write(told)"
    )
    python(code, str(path))(alert(message="a 'quoted' $(message)\0").as_dict())
    content, message = path.read_text().splitlines()
    assert json.loads(content)["labels"] == {"worker": "3"}
    assert message == "a 'quoted' $(message)"


def test_one_that_fails_is_told_with_what_it_said():
    with pytest.raises(OSError, match="ended with status 3: no pager"):
        python("import sys; sys.exit(sys.stderr.write('no pager') and 3)")({**alert().as_dict()})


def test_one_that_is_not_there_is_told():
    with pytest.raises(OSError, match="no-such-program"):
        Command(["/no-such-program"])(alert().as_dict())


def test_one_that_takes_too_long_is_killed_with_all_that_it_started():
    start = time.monotonic()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(OSError, match=r"took longer than 0\.3 s and was killed"):
        python(code, timeout=0.3)(alert().as_dict())
    assert time.monotonic() - start < 30.0


def test_what_it_leaves_running_in_the_background_is_neither_waited_for_nor_a_failure():
    start = time.monotonic()
    Command(["/bin/sh", "-c", "sleep 60 & exit 0"], timeout=30.0)(alert().as_dict())
    assert time.monotonic() - start < 20.0


@pytest.mark.parametrize("arguments", [[], [""], ["a", 1]])
def test_what_is_no_command_is_refused(arguments):
    with pytest.raises(ValueError, match="a command is a list"):
        Command(arguments)
