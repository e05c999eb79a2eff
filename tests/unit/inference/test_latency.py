"""Latencies: what is called how often, and in which state torch is left."""

from __future__ import annotations

import time

import torch

from cifar_lab.inference.latency import LEAST, WARM_UP, measure_latencies, one_thread


def test_functions_are_called_in_turns_and_each_has_its_own_times() -> None:
    calls: list[str] = []
    functions = {"slow": lambda: (calls.append("slow"), time.sleep(0.002)), "quick": lambda: calls.append("quick")}
    latencies = measure_latencies(functions, seconds=0)
    assert calls[2 * WARM_UP :] == ["slow", "quick"] * LEAST
    assert {each.calls for each in latencies.values()} == {LEAST}
    assert latencies["slow"].p50 >= 2 > latencies["quick"].p50
    assert all(each.p50 <= each.p95 for each in latencies.values())


def test_torch_has_one_thread_inside_and_the_same_number_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
