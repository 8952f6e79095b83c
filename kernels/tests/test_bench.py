"""The bench runs, its workloads are the published ones, and it writes what it says."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import pytest
import torch

from wmdsl_kernels.attention import attention
from wmdsl_kernels.bench import __main__ as command
from wmdsl_kernels.bench import around, decode, measure, report, rivals, run
from wmdsl_kernels.bench.measure import ratios
from wmdsl_kernels.bench.run import bench
from wmdsl_kernels.bench.workloads import CPU, PUBLISHED, TABLES, Workload
from wmdsl_kernels.schedule import Schedule

TINY = Workload("tiny", Schedule.from_ranges(9, 9, [(0, 4, 0, 4), (4, 9, 0, 9)]), 1, 2, 1, 16)
AROUND = around.Shape("tiny", 2, (3, 2, 4), 24, 2, 12)
DECODE = decode.Shape("few", 3, 20, 2, 4, 2, 16, pools=2)


def test_workloads_have_unique_names_and_published_work():
    for table in TABLES.values():
        assert len({workload.name for workload in table}) == len(table)
    flops = {workload.name: workload.flops(backward=False) for workload in PUBLISHED}
    assert flops["FW1"] == pytest.approx(14.0e9, rel=0.01)
    assert flops["LB1a"] == pytest.approx(64e9, rel=0.01)
    assert {workload.name for workload in CPU} >= {
        "FW1",
        "FW2",
        "FW3",
        "FW4a",
        "FW4b",
        "LB1a",
        "P1",
    }
    densities = {workload.name: workload.schedule.density for workload in PUBLISHED}
    assert densities["teacher-880"] == pytest.approx(0.258, abs=1e-3)
    assert densities["blocks-8192"] == 0.625


def test_ratios_of_a_call_to_itself_are_one():
    def call():
        return torch.ones(8).sum()

    measured = ratios({"sdpa": call, "ours": call}, "sdpa", torch.device("cpu"), 0.0)
    assert measured["sdpa"].median == 1.0
    assert measured["ours"].rounds >= 7
    assert measured["ours"].low <= measured["ours"].median <= measured["ours"].high


def other(*_):
    return lambda query, key, value: 2 * query


def broken(*_):
    raise RuntimeError("no such\n  operator")


def test_what_a_rival_cannot_do_is_recorded(monkeypatch):
    def flat(*_):
        return lambda query, key, value: torch.zeros_like(query)

    for name, rival in (("other", other), ("broken", broken), ("flat", flat)):
        monkeypatch.setitem(rivals.RIVALS, name, rival)
    names = ["other", "broken", "flat", "sdpa"]
    forward, training = bench(TINY, "fp32", names, torch.device("cpu"), 0.0)
    differs = "computes something else"
    broke = {"broken": "RuntimeError: no such operator", "other": differs}
    assert forward.refused == broke | {"flat": differs}
    assert set(forward.ratios) == {"sdpa", "ours"}
    assert training.refused.keys() == forward.refused.keys()
    assert "RuntimeError" in training.refused["flat"]
    assert "broken refused: RuntimeError: no such operator" in report.row(forward)


def test_without_the_reference_ours_is_still_timed(monkeypatch):
    monkeypatch.setitem(rivals.RIVALS, "sdpa", broken)
    (result, _) = bench(TINY, "fp32", ["sdpa"], torch.device("cpu"), 0.0)
    assert result.reference == "ours" and result.refused.keys() == {"sdpa"}
    assert "ours" in report.row(result)


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_a_failure_of_ours_is_an_error(slope, monkeypatch):
    """Wrong outputs, and wrong gradients of right outputs."""

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone() if slope != 1.0 else 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return slope * gradient

    monkeypatch.setattr(
        run, "attention", lambda *inputs, schedule: Scaled.apply(attention(*inputs, schedule))
    )
    with pytest.raises(AssertionError, match="ours computes something else than sdpa"):
        bench(TINY, "fp32", ["sdpa"], torch.device("cpu"), 0.0)


def test_a_dense_workload_also_times_our_own_kernels(monkeypatch):
    monkeypatch.setitem(run.NAMED, "cpu", "rectangles")
    dense = Workload("dense", Schedule.dense(9, 9), 1, 2, 1, 16)
    for result in bench(dense, "fp32", ["sdpa"], torch.device("cpu"), 0.0):
        assert set(result.ratios) == {"sdpa", "ours", "rectangles"}
        assert report.row(result).count("TFLOP/s") == 2


def test_command_writes_json(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(TABLES, "cpu", (TINY,))
    monkeypatch.setitem(around.SHAPES, "cpu", (AROUND,))
    monkeypatch.setitem(decode.SHAPES, "cpu", (DECODE,))
    arguments = "--device cpu --no-gate --rivals sdpa --seconds 0 --dtypes fp32 --out".split()
    assert command.main([*arguments, str(tmp_path)]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [result["direction"] for result in written["results"]] == ["forward", "training"]
    environment = written["environment"]
    assert environment["threads"] == 1 and environment["torch"] == torch.__version__
    assert environment.keys() >= {"date", "commit", "triton", "xformers"}
    assert {"norm + modulation", "cached heads", "grouped linear"} <= {
        record["operation"] for record in written["around"]
    }
    assert written["decode"][0]["ratios"].keys() == {"gathered", "ours", "side by side", "copy"}
    printed = capsys.readouterr().out
    assert "x density" in printed and "decode few" in printed
    assert (tmp_path / "bench.svg").exists()


def test_what_surrounds_attention_is_timed_line_by_line(monkeypatch, capsys):
    monkeypatch.setitem(around.SHAPES, "cpu", (AROUND,))
    around.main("--device cpu --seconds 0 --dtypes fp32 bf16".split())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (4 * 2 + 1)
    assert all("ours" in line and "copy" in line for line in lines)


@pytest.mark.parametrize(
    ("device", "marks"), [("cuda", "not slow"), ("cpu", "not slow and not gpu")]
)
def test_a_red_gate_stops_the_bench(device, marks, monkeypatch):
    commands = []

    def red(arguments, **_):
        commands.append(arguments)
        return subprocess.CompletedProcess(arguments, 1)

    monkeypatch.setattr(command.subprocess, "run", red)
    for module, timed in ((command, "bench"), (around, "lines"), (decode, "lines")):
        monkeypatch.setattr(module, timed, lambda *_: pytest.fail("timed in spite of a red gate"))
    assert command.main(["--device", device]) == 1
    ((*_, option, chosen, folder),) = commands
    assert (option, chosen) == ("-m", marks)
    assert folder == str(command.TESTS)


def test_a_line_of_decoding_on_a_gpu_says_what_is_read_in_a_second():
    found = decode.measure(DECODE, torch.float32, torch.device("cpu"), 0.0)
    line = decode._line(DECODE, "fp32", torch.device("cuda"), found)
    assert DECODE.read_bytes(torch.float32) == 2 * 2 * 2 * 20 * 2 * 16 * 4
    assert line.count("GB/s") == len(found) == 4


def test_wrong_decoding_is_an_error(monkeypatch):
    monkeypatch.setattr(decode, "decode_attention", lambda query, *_: 2 * query)
    with pytest.raises(AssertionError, match="ours computes something else than gathered"):
        decode.measure(DECODE, torch.float32, torch.device("cpu"), 0.0)


def test_parts_can_be_timed_alone(monkeypatch, capsys):
    monkeypatch.setitem(
        TABLES, "cpu", (TINY, dataclasses.replace(TINY, name="half", dtypes=("bf16",)))
    )
    monkeypatch.setitem(decode.SHAPES, "cpu", (DECODE,))
    arguments = "--device cpu --no-gate --rivals sdpa --seconds 0 --dtypes fp32 --only"
    assert command.main([*arguments.split(), "decode", "half"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("decode few")


def test_long_calls_are_timed_in_three_rounds(monkeypatch):
    monkeypatch.setattr(measure, "LONG_SECONDS", 0.0)
    found = measure.ratios({"sdpa": list}, "sdpa", torch.device("cpu"), 0.0)
    assert found["sdpa"].rounds == 3


def test_compiled_rivals_start_afresh_with_every_workload(monkeypatch):
    events = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: events.append("reset"))
    monkeypatch.setattr(torch, "compile", lambda run: events.append("compile") or run)
    for _ in range(2):
        bench(TINY, "fp32", ["sdpa", "sdpa-compiled"], torch.device("cpu"), 0.0)
    assert events == 2 * ["reset", "compile"]
