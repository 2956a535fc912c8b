"""The handlers of the verbs."""

import signal
from contextlib import suppress

import pytest

from shmetrics.cli import main
from shmetrics.cli.handling import Interruption, handling


def test_signals_are_handled_in_the_block_and_as_before_after_it():
    heard = []
    before = signal.getsignal(signal.SIGUSR1)
    with handling((signal.SIGUSR1,), lambda number, _frame: heard.append(number)):
        signal.raise_signal(signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_verb_that_fails_leaves_the_callers_handlers_in_place(hub_name, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert main(["serve", hub_name]) != 0
    assert "no hub" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_are_as_before_when_the_block_raises():
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(KeyError), handling((signal.SIGUSR2,), lambda *_: None):
        raise KeyError
    assert signal.getsignal(signal.SIGUSR2) is before


def test_an_interruption_that_was_lost_comes_at_the_next_step():
    interruption = Interruption()
    interruption.check()
    with handling((signal.SIGUSR1,), interruption):
        with suppress(KeyboardInterrupt):  # as a destructor
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
