"""The performance gate, with pieces that are loops."""

import json
import sys

import pytest

from benchmarks import gate


def loop(count):
    return lambda: lambda: sum(range(count))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(piece, *arguments) returns the exit code of a gate that has only this piece."""
    monkeypatch.setattr(gate, "RECORDED", tmp_path / "gate.json")
    monkeypatch.setattr(gate, "CALIBRATIONS", {"same": loop(30_000)})
    monkeypatch.setattr(gate, "LEAST", 0.002)

    def run(piece, *arguments):
        monkeypatch.setattr(gate, "PIECES", {"piece": gate.Piece(piece, "same")})
        monkeypatch.setattr(sys, "argv", ["gate.py", *arguments])
        return gate.main()

    return run


def test_a_piece_that_becomes_slower_fails(run, capsys):
    assert run(loop(30_000)) == 1  # not recorded
    assert run(loop(30_000), "--record") == 0
    assert run(loop(30_000), "--limit", "1.9") == 0
    assert run(loop(120_000), "--limit", "1.9") == 1
    assert capsys.readouterr().out.endswith("piece\n")


def test_every_piece_is_recorded():
    assert sorted(json.loads(gate.RECORDED.read_text())) == sorted(gate.PIECES)
    assert {piece.calibration for piece in gate.PIECES.values()} <= gate.CALIBRATIONS.keys()
