"""Checkpoints: round trips by bit, death at any moment, damage, pruning, misfits by message."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training import checkpoint, migrations
from workbench.training.config import TrainConfig
from workbench.training.monitor import Monitor


class Killed(BaseException):
    """Stands for the end of the process: no handler of ours may catch it."""


def parts(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "G": {"a": torch.full((3, 2), value), "n": torch.tensor(int(value))},
        "D": {"b": torch.full((4,), -value)},
    }


def save(run: Path, cur_nimg: int, **state: object) -> Path:
    return checkpoint.write(run, parts(cur_nimg), {"cur_nimg": cur_nimg, "frechet_ratio": None, **state})


def test_round_trip_keeps_bits_and_floats(tmp_path):
    values = {
        "x": torch.randn(5, 3, 2, 2).to(memory_format=torch.channels_last),
        "y": torch.randn(3).bfloat16(),
        "s": torch.tensor(7.0),
    }
    facts = {"cur_nimg": 12, "sums": {"loss": [0.1 + 0.2, 3]}, "tiny": 5e-324}
    checkpoint.write(tmp_path, {"G": values}, facts)
    found, complaints = checkpoint.newest(tmp_path)
    assert complaints == [] and found.cur_nimg == 12 and found.folder.name == "step-000000012"
    back = found.tensors()["G"]
    assert back.keys() == values.keys() and all(
        torch.equal(back[k], values[k]) and back[k].dtype == values[k].dtype for k in values
    )
    assert {k: found.state[k] for k in facts} == facts


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    x = torch.arange(6.0)
    checkpoint.write(tmp_path, {"G": {"a": x, "b": x}}, {"cur_nimg": 0})
    back = checkpoint.newest(tmp_path)[0].tensors()["G"]
    assert torch.equal(back["a"], x) and torch.equal(back["b"], x)


@pytest.mark.parametrize("function", ["mkdir", "open", "fsync", "rename"])
def test_death_at_any_call_leaves_the_last_good_one(tmp_path, monkeypatch, function):
    save(tmp_path, 10)
    place = {
        "mkdir": (Path, "mkdir"),
        "open": (checkpoint, "open"),
        "fsync": (checkpoint.os, "fsync"),
        "rename": (checkpoint.os, "rename"),
    }
    owner, name = place[function]
    real = getattr(owner, name, open)
    survived = 0
    for deadly in range(8):
        calls = iter(range(100))

        def dies(*args, calls=calls, deadly=deadly, **kwargs):
            if next(calls) == deadly:
                raise Killed
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dies, raising=False)
            try:
                save(tmp_path, 20)
                survived += 1
            except Killed:
                pass
        found, complaints = checkpoint.newest(tmp_path)
        assert found.cur_nimg in (10, 20) and complaints == []
        value = float(found.cur_nimg)
        assert torch.equal(found.tensors()["D"]["b"], torch.full((4,), -value))
    assert 0 < survived < 8
    checkpoint.clear_leftovers(tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"step-000000010", "step-000000020"}


def test_a_damaged_one_is_named_and_passed_over(tmp_path):
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    data = bytearray((newest / "G.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "G.safetensors").write_bytes(data)
    found, complaints = checkpoint.newest(tmp_path)
    assert found.cur_nimg == 10
    assert (
        len(complaints) == 1
        and "step-000000020 is damaged (G.safetensors is missing or changed)" in complaints[0]
    )
    (newest / "state.json").write_text("{")
    assert "cannot be read" in checkpoint.newest(tmp_path)[1][0]


def test_damaged_ones_are_put_aside_and_cost_no_whole_one(tmp_path):
    for count in (10, 20, 30):
        save(tmp_path, count)
    (tmp_path / "checkpoints/step-000000030/G.safetensors").unlink()
    (tmp_path / "checkpoints/step-000000020/state.json").write_text("{")
    said = checkpoint.put_aside(tmp_path)
    assert len(said) == 2 and said[0].endswith(
        "step-000000030 is damaged (G.safetensors is missing or changed). It was put aside as "
        "damaged-step-000000030."
    )
    assert checkpoint.newest_nimg(tmp_path) == checkpoint.newest(tmp_path)[0].cur_nimg == 10
    save(tmp_path, 15)
    checkpoint.prune(tmp_path, 1)
    assert checkpoint.newest(tmp_path)[0].cur_nimg == 15 and checkpoint.put_aside(tmp_path) == []
    assert (tmp_path / "checkpoints/damaged-step-000000030").is_dir()  # for whoever wants to look


@pytest.mark.parametrize(
    ("schema", "why"), [(99, "a later version wrote it; update the workbench"), ("x", "it is none of ours")]
)
def test_another_schema_is_refused_in_one_sentence(tmp_path, schema, why):
    folder = save(tmp_path, 10, monitor={})
    state = json.loads((folder / "state.json").read_text())
    assert state["schema"] == migrations.CURRENT
    (folder / "state.json").write_text(json.dumps({**state, "schema": schema}))
    with pytest.raises(WorkbenchError, match=f"schema {schema!r}, and this workbench reads 1 to 2: {why}"):
        checkpoint.read(folder)


def test_a_checkpoint_of_the_first_version_loads_as_one_of_now(tmp_path):
    """Its state.json is one that version 1 wrote; only the list of files is this test's."""
    old = json.loads((Path(__file__).parent / "histories" / "state-1.json").read_text())
    assert old["schema"] == 1
    folder = save(tmp_path, 10)
    files = json.loads((folder / "state.json").read_text())["files"]
    (folder / "state.json").write_text(json.dumps({**old, "files": files}))
    found = checkpoint.read(folder).state
    assert found["schema"] == migrations.CURRENT and found["step"] == old["step"] == 3125
    assert found["monitor"].items() >= old["monitor"].items()
    watch = Monitor(TrainConfig(images=200_000))
    assert found["monitor"].keys() == watch.state.keys()
    watch.state = found["monitor"]
    assert watch.evaluation(120_000, 12.0, 0.9) == []


def test_the_newest_and_the_best_stay(tmp_path):
    for n, ratio in ((10, 9.0), (20, 3.0), (30, None), (40, 4.0), (50, None)):
        save(tmp_path, n, frechet_ratio=ratio)
    gone = checkpoint.prune(tmp_path, 2)
    assert [p.name[-2:] for p in gone] == ["10", "30"]
    assert [p.name[-2:] for p in checkpoint.list_checkpoints(tmp_path)] == ["20", "40", "50"]
    assert checkpoint.best(tmp_path).cur_nimg == 20
    checkpoint.drop_after(tmp_path, 20)
    assert checkpoint.newest_nimg(tmp_path) == 20


def networks(seed: int) -> tuple[dict[str, nn.Module], torch.optim.Optimizer]:
    torch.manual_seed(seed)
    modules = {"G": nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last), "D": nn.Linear(3, 2)}
    return modules, torch.optim.Adam(
        [p for m in modules.values() for p in m.parameters()], lr=0.1, betas=(0.0, 0.99), fused=True
    )


def train_some(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2, 4, 5, 5, generator=generator).to(memory_format=torch.channels_last)
        loss = (
            modules["G"](x).square().mean()
            + modules["D"](torch.randn(2, 3, generator=generator)).square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_adam_goes_on_bit_by_bit(tmp_path):
    torch.set_num_threads(1)
    modules, optimizer = networks(0)
    train_some(modules, optimizer, range(3))
    names = checkpoint.parameter_names(modules)
    saved = {
        **{k: checkpoint.module_tensors(m) for k, m in modules.items()},
        "opt": checkpoint.optimizer_tensors(optimizer, names),
    }
    assert set(saved["opt"]) >= {"G.weight/exp_avg_sq", "G.bias/step", "D.weight/exp_avg"}
    checkpoint.write(tmp_path, saved, {"cur_nimg": 3})
    others, other_optimizer = networks(1)
    found = checkpoint.newest(tmp_path)[0].tensors()
    for name, module in others.items():
        checkpoint.load_module(module, found[name], name)
    checkpoint.load_optimizer(other_optimizer, found["opt"], checkpoint.parameter_names(others))
    train_some(modules, optimizer, range(3, 6))
    train_some(others, other_optimizer, range(3, 6))
    for name, module in modules.items():
        for a, b in zip(module.parameters(), others[name].parameters(), strict=True):
            assert torch.equal(a, b)
    assert others["G"].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_misfit_names_the_tensor_and_both_shapes():
    with pytest.raises(WorkbenchError, match=r"D\.bias is \[2\], expected \[5\]"):
        checkpoint.load_module(nn.Linear(3, 5), nn.Linear(3, 2).state_dict(), "D")
    with pytest.raises(WorkbenchError, match=r"D\.bias is nothing, expected \[5\]"):
        checkpoint.load_module(nn.Linear(3, 5), {"weight": torch.zeros(5, 3)}, "D")
    modules, optimizer = networks(0)
    with pytest.raises(WorkbenchError, match=r"knows H\.weight"):
        checkpoint.load_optimizer(
            optimizer, {"H.weight/step": torch.tensor(1.0)}, checkpoint.parameter_names(modules)
        )


def test_not_finite_is_seen_whatever_hides_it():
    good = [torch.ones(3), torch.tensor(5), torch.full((2,), 1e30)]
    assert checkpoint.all_finite(good)
    for bad in (float("nan"), float("inf")):
        assert not checkpoint.all_finite([*good, torch.tensor([0.0, bad])])
