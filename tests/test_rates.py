"""Does a machine that was written down say the same when it is read?"""

import json
from pathlib import Path

import pytest
import torch

from realm import rates
from realm.errors import SettingError
from realm.machine import Shape
from realm.models.precision import ComputeSettings
from realm.rates import EncoderRate, Machine, measure_machine, open_machine

FIXED = ComputeSettings(precision="fp32", attention="eager", num_threads=1)
NARROW = EncoderRate(
    width=32, heads=2, inner=64, length=10, forward=1000.0, training=300.0, kept_bytes=600.0
)
WIDE = EncoderRate(
    width=64, heads=2, inner=256, length=10, forward=200.0, training=50.0, kept_bytes=1200.0
)


def machine_with(*encoders: EncoderRate) -> Machine:
    return open_machine("2-core-epyc").model_copy(update={"encoders": encoders})


def test_every_named_machine_loads_and_names_its_source() -> None:
    with pytest.raises(SettingError, match="there is no machine cray: give one of") as error:
        open_machine("cray")
    names = str(error.value).split("give one of ")[1].split(", or")[0].split(", ")
    assert {"8xA100", "2-core-epyc"} <= set(names)
    for name in names:
        machine = open_machine(name)
        assert machine.name == name
        assert machine.source
        # Nothing is quicker than the matrix unit.
        for rate in machine.encoders:
            reached = rate.forward * rate.shape.layer_flops(rate.length)
            assert reached <= machine.product_flops("forward") * 1.01


def test_the_most_alike_measurement_counts_by_its_operations() -> None:
    machine = machine_with(NARROW, WIDE)
    assert machine.tokens_a_second(NARROW.shape, 10, "forward") == 1000.0
    assert machine.tokens_a_second(WIDE.shape, 10, "training") == 50.0
    # Longer inputs have more products: 2 x 8,192 + 4 x 10 x 32 against 2 x 8,192 + 4 x 74 x 32.
    expected = 1000.0 * (16384 + 1280) / (16384 + 9472)
    assert machine.tokens_a_second(NARROW.shape, 74, "forward") == pytest.approx(expected)
    # A shape that nobody measured: the operations of the nearest one.
    between = Shape(32, 2, 128)
    expected = 1000.0 * (16384 + 1280) / (2 * (4 * 1024 + 2 * 4096) + 1280)
    assert machine.tokens_a_second(between, 10, "forward") == pytest.approx(expected)


def test_a_search_costs_by_rows_and_by_queries() -> None:
    machine = machine_with(NARROW).model_copy(update={"search_rows": 1e6, "search_scores": 1e7})
    # A million rows once, and a million times five scores; half as wide, half of it.
    assert machine.search_seconds(1_000_000, 5, 128) == pytest.approx(1.0 + 0.5)
    assert machine.search_seconds(1_000_000, 5, 64) == pytest.approx(0.75)


def test_a_measured_machine_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("_WEIGHTS", 1 << 14), ("_ROWS", 256), ("_DISK_BYTES", 4096)):
        monkeypatch.setattr(rates, name, small)
    monkeypatch.setattr(rates, "_cut_characters", lambda: 1e6)
    before = torch.get_num_threads()
    machine = measure_machine([Shape(32, 2, 64)], [8, 16], FIXED)
    assert torch.get_num_threads() == before
    assert machine.chosen["training precision"] == "fp32"
    assert [rate.length for rate in machine.encoders] == [8, 16]
    rates_of = machine.model_dump()
    assert all(rates_of[name] > 0 for name in ("weights", "span_numbers", "search_scores"))
    file = tmp_path / "machine.json"
    file.write_text(machine.model_dump_json(), encoding="utf-8")
    assert open_machine(str(file)) == machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "is no machine: write one"), ('{"name": "x", "sped": 3}', "sped")],
    ids=["no JSON", "unknown key"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "machine.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=expected):
        open_machine(str(file))


def test_a_layer_keeps_what_its_backward_pass_needs() -> None:
    from realm.machine import layer_kept_bytes

    single = layer_kept_bytes(Shape(32, 2, 64), "fp32", "eager", length=16)
    half = layer_kept_bytes(Shape(32, 2, 64), "bf16", "eager", length=16)
    # Inputs, queries, keys, values, what attention gives, and both sides of the inner activation:
    # seven of 32 numbers and two of 64 at the least, of 4 bytes each.
    assert single >= 4 * (5 * 32 + 2 * 64)
    assert half < single


def test_json_of_a_machine_is_plain() -> None:
    text = open_machine("8xA100").model_dump_json()
    assert json.loads(text)["num_devices"] == 8
