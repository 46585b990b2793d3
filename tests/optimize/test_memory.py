"""Too little memory is said before the start."""

from __future__ import annotations

import logging

import pytest
import torch

from faststyle.errors import OptimizeError
from faststyle.optimize import memory

CPU = torch.device("cpu")


def test_what_is_there_is_no_reason_to_stop(caplog):
    with caplog.at_level(logging.INFO, "faststyle"):
        memory.check_memory(1000, CPU, "choose a smaller --size")
    assert not caplog.messages


def test_much_memory_is_mentioned(monkeypatch, caplog):
    monkeypatch.setattr(memory, "_available", lambda device: 8_000_000_000)
    with caplog.at_level(logging.INFO, "faststyle"):
        memory.check_memory(3_000_000_000, CPU, "")
    assert caplog.messages == ["this takes about 3.0 GB of 8.0 GB that are free"]


def test_too_little_memory_takes_one_line_with_the_remedy(monkeypatch, caplog):
    monkeypatch.setattr(memory, "_available", lambda device: 2_000_000_000)
    with caplog.at_level(logging.INFO, "faststyle"), pytest.raises(OptimizeError) as caught:
        memory.check_memory(3_000_000_000, CPU, "choose a smaller --size")
    assert str(caught.value) == "this needs about 3.0 GB, and 2.0 GB are free: choose a smaller --size"
    assert not caplog.messages


def test_a_system_that_does_not_say_stops_nobody(monkeypatch):
    monkeypatch.setattr(memory, "_system", lambda: None)
    monkeypatch.setattr(memory, "_control_group", lambda: None)
    memory.check_memory(1 << 60, CPU, "")


def test_the_tighter_of_machine_and_container_counts(monkeypatch):
    monkeypatch.setattr(memory, "_system", lambda: 5)
    monkeypatch.setattr(memory, "_control_group", lambda: 3)
    with pytest.raises(OptimizeError):
        memory.check_memory(4, CPU, "")
