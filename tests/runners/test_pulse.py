import os

from datamodels.runners.pulse import Pulse


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_process_is_silent_once_its_file_has_not_changed_for_the_limit(tmp_path):
    file, clock = tmp_path / "beat", Clock()
    pulse = Pulse(file, 10.0, clock)
    clock.now = 9
    assert not pulse.silent()  # it is starting
    file.touch()
    assert not pulse.silent()
    clock.now = 19
    assert not pulse.silent()
    clock.now = 19.5
    assert pulse.silent()
    os.utime(file, ns=(1, 1))  # a clock set back is a beat like any other
    assert not pulse.silent()


def test_a_process_that_never_beats_is_silent_after_the_limit(tmp_path):
    clock = Clock()
    pulse = Pulse(tmp_path / "beat", 10.0, clock)
    clock.now = 11
    assert pulse.silent()


def test_the_file_of_an_earlier_process_is_no_beat(tmp_path):
    (tmp_path / "beat").touch()
    clock = Clock()
    pulse = Pulse(tmp_path / "beat", 10.0, clock)
    clock.now = 11
    assert pulse.silent()
