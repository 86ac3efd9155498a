"""device=...: the device that it names, and the error if there is none; with stubs in place of GPUs."""

import platform
from pathlib import Path

import pytest
import torch

from bbbrun.errors import UserError
from bbbrun.runtime.device import choose_device, flushed_subnormals, name_of, process_settings, set_products
from bbbrun.schema.methods import Precision


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, of which the first is current."""
    current = [0]
    stubs = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda number: f"GPU {number}",
        "current_device": lambda: current[0],
        "set_device": lambda device: (
            current.__setitem__(0, torch.device("cuda", device).index)
            if isinstance(device, int)
            else current.__setitem__(0, device.index)
        ),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    return current


def test_a_number_chooses_a_gpu_until_the_run_ends(gpus):
    with process_settings():
        assert choose_device("cuda:1") == torch.device("cuda:1")
        assert gpus == [1]
    assert gpus == [0]
    assert choose_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(("word", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_without_a_number_the_current_gpu_is_used(gpus, word, expected):
    assert choose_device(word) == torch.device(expected)
    assert gpus == [0]


@pytest.mark.parametrize("word", ["cuda:2", "cuda:999"])
def test_a_device_that_is_not_there_names_those_that_are(gpus, word):
    with pytest.raises(UserError, match=rf"^device={word}: this machine has cuda:0 \(GPU 0\), cuda:1 \(GPU 1\)$"):
        choose_device(word)


def test_a_record_names_the_processor(gpus, monkeypatch):
    assert name_of(torch.device("cuda:1")) == "GPU cuda:1"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda path: "processor\t: 0\nmodel name\t: Some Maker 7\nprocessor\t: 1\n")
    assert name_of(torch.device("cpu")) == "cpu (x86_64, Some Maker 7)"
    monkeypatch.setattr(Path, "read_text", lambda path: "Processor\t: ARMv8\n")
    assert name_of(torch.device("cpu")) == "cpu (x86_64)"


@pytest.mark.parametrize("word", ["cuda", "cuda:0", "cuda:1"])
def test_no_gpu_at_all_is_one_line(monkeypatch, word):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"^device={word}: this machine has no CUDA device"):
        choose_device(word)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_bfloat16_is_refused_where_the_processor_lacks_it(monkeypatch, instructions):
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instructions)
    set_products(Precision.bfloat16, cpu)
    monkeypatch.delattr(torch.cpu, instructions)  # as a torch that does not tell
    with pytest.raises(UserError, match=r"^precision=bfloat16: this processor has no such products .* say precision="):
        set_products(Precision.bfloat16, cpu)


def test_numbers_too_small_to_be_normal_are_0_within_the_context_alone():
    subnormal = torch.tensor(2.0**-140)
    with flushed_subnormals(torch.device("cpu")):
        assert (subnormal * 1).item() == 0
        with flushed_subnormals(torch.device("cpu")):
            assert (subnormal * 1).item() == 0
        assert (subnormal * 1).item() == 0  # the outer context is still in force
    assert (subnormal * 1).item() == 2.0**-140
    with pytest.raises(ZeroDivisionError), flushed_subnormals(torch.device("cpu")):
        raise ZeroDivisionError
    assert (subnormal * 1).item() == 2.0**-140
    with flushed_subnormals(torch.device("cuda")):
        assert (subnormal * 1).item() == 2.0**-140
