"""The processor's features are read, on the two families that newsdesk serves on."""

from pathlib import Path

import pytest

from newsdesk.server.runtime import processor

X86 = """\
processor\t: 0
model name\t: Some Processor 7
flags\t\t: fpu sse2 avx2 avx512_vnni avx512_bf16
processor\t: 1
model name\t: Some Processor 7
flags\t\t: fpu sse2 avx2 avx512_vnni avx512_bf16
"""
ARM = """\
processor\t: 0
Features\t: fp asimd asimddp i8mm bf16
CPU part\t: 0xd42
"""


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def of(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")

    return of


def test_of_x86(cpuinfo):
    cpuinfo(X86)
    assert processor.features() == {"fpu", "sse2", "avx2", "avx512_vnni", "avx512_bf16"}
    assert processor.describe() == "Some Processor 7 (avx512_bf16 avx512_vnni)"
    assert processor.kernels() == "Some Processor 7 (avx2 avx512_bf16 avx512_vnni)"


def test_of_arm(cpuinfo):
    cpuinfo(ARM)
    assert processor.changes_answers() == ["bf16", "i8mm"]
    assert processor.kernels().endswith("(asimd asimddp bf16 i8mm)")


def test_two_that_share_a_name_are_told_apart(cpuinfo):
    """Clouds call all of theirs "AMD EPYC"; what was measured on one must not count as measured on another."""
    cpuinfo(X86.replace(" avx512_vnni avx512_bf16", ""))
    assert processor.describe() == "Some Processor 7 (neither VNNI nor bf16)"


def test_without_the_kernels_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nowhere")
    assert processor.features() == set()
    assert processor.name()


@pytest.mark.parametrize(
    ("described", "processor_name", "expected"),
    [(X86, "of Python", "Some Processor 7"), (ARM, "of Python", "of Python"), (ARM, "", "aarch64")],
)
def test_the_name_is_the_most_telling_there_is(
    described: str, processor_name: str, expected: str, cpuinfo, monkeypatch: pytest.MonkeyPatch
):
    cpuinfo(described)
    monkeypatch.setattr(processor.platform, "processor", lambda: processor_name)
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    assert processor.name() == expected


@pytest.mark.parametrize(
    ("machine", "flags", "adds"),
    [
        ("AMD64", X86.replace(" avx512_vnni", ""), True),
        ("x86_64", X86, False),
        ("x86_64", X86.replace(" avx512_vnni", ""), True),
        ("x86_64", X86.replace(" avx512_vnni", " avx_vnni"), False),
        ("aarch64", ARM, False),
        ("aarch64", ARM.replace(" i8mm", ""), False),
    ],
)
def test_whose_int8_products_are_added_in_16_bits(machine, flags, adds, cpuinfo, monkeypatch: pytest.MonkeyPatch):
    cpuinfo(flags)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.adds_in_16_bits() is adds
