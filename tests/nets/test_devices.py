"""Where and how precisely to compute: what the machine has decides, unless a name is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from faststyle.errors import ConfigError
from faststyle.nets import devices

CPU = torch.device("cpu")


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What stands for /proc/cpuinfo; not there yet."""
    file = tmp_path / "cpuinfo"

    def instead(name: str) -> Path:
        assert name == "/proc/cpuinfo"
        return file

    monkeypatch.setattr(devices, "Path", instead)
    devices._multiplies_bfloat16.cache_clear()
    yield file
    devices._multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx512f avx512_bf16\nbugs\t\t: spectre_v1\n", torch.bfloat16),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", torch.bfloat16),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f\n", torch.float32),
        ("flags\t\t: fpu avx512_bf16_not\nbugs\t\t: avx512_bf16\n", torch.float32),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", torch.float32),
        ("", torch.float32),
    ],
    ids=["avx512", "amx", "neither", "elsewhere", "arm", "empty"],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(cpuinfo, text, precision):
    cpuinfo.write_text(text)
    assert devices.precision_of("auto", CPU) == precision


def test_auto_is_float32_where_the_processor_does_not_say(cpuinfo):
    assert devices.precision_of("auto", CPU) == torch.float32


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_auto_is_bfloat16_on_gpus_that_multiply_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.precision_of("auto", torch.device("cuda")) == precision


def test_auto_is_float32_on_other_devices(cpuinfo):
    cpuinfo.write_text("flags\t\t: avx512_bf16\n")
    assert devices.precision_of("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("text", ["flags\t\t: avx512_bf16\n", "flags\t\t: sse2\n"])
def test_a_precision_by_name_is_taken(cpuinfo, text):
    cpuinfo.write_text(text)
    assert devices.precision_of("float32", CPU) == torch.float32
    assert devices.precision_of("bfloat16", CPU) == torch.bfloat16


def test_convolutions_run_in_the_reduced_format_only_where_asked():
    convolution, image = torch.nn.Conv2d(3, 2, 3), torch.rand(1, 3, 8, 8)
    for precision in (torch.float32, torch.bfloat16):
        with devices.reduced(CPU, precision):
            assert convolution(image).dtype == precision


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_device_there_is(monkeypatch, cuda, mps, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # none of them need be in this machine
    assert devices.choose_device("auto").type == kind


def test_a_device_by_name_is_taken():
    assert devices.choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["abacus", "", "gpu", "CUDA", "xpu"])
def test_an_unknown_device_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError) as caught:
        devices.choose_device(name)
    assert str(caught.value) == f"--device {name} is unknown: take auto, cpu, cuda, cuda:1 or mps"


@pytest.mark.parametrize("name", ["cuda:99", "cuda:one", "cuda:"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=rf"--device {name} cannot be used \(.+\): take cpu") as caught:
        devices.choose_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_without_cuda_it_is_refused():
    with pytest.raises(ConfigError, match="--device cuda cannot be used"):
        devices.choose_device("cuda")
