"""Shards: the plan of a preset by hand, and two real processes whose sharded networks learn as whole ones."""

import json
import socket
from types import SimpleNamespace

import pytest
import sharded_pair
import tiny_run
import torch
from accelerate.utils import DistributedType
from tiny_models import discriminator_config, generator_config

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.presets import preset
from workbench.training import sharding

GIB = 2**30


def test_every_parameter_is_in_one_unit_or_in_the_root():
    with torch.device("meta"):
        for network in (Generator(generator_config()), Discriminator(discriminator_config(collapse="mean"))):
            found = sharding.units(network)
            names = [name for name, _ in network.named_parameters()]
            owners = [[unit for unit in found if name.startswith(f"{unit}.")] for name in names]
            assert max(map(len, owners)) == 1 and sum(map(bool, owners)) > len(names) / 2
    assert {type(module) for module in found.values()} <= set(sharding.UNITS)


def test_the_plan_of_the_largest_preset_by_hand():
    """G 653.6 M, D 381.3 M and heads 0.9 M parameters: 16 bytes each, and 4 for each of G's average."""
    plan = sharding.plan(preset("gigagan-64"), gpus=(1, 8))
    G, D, heads = (plan.parameters[name] for name in ("G", "D", "heads"))
    assert (G, D) == (653_609_867, 381_268_554)
    total = G + D + heads
    found = {(row.gpus, row.stage): row.gib for row in plan.rows}
    whole = (16 * total + 4 * G) / GIB
    assert all(found[1, stage] == pytest.approx(whole) for stage in sharding.STAGES)
    assert found[8, "none"] == pytest.approx(whole)
    assert found[8, "ZeRO-1"] == pytest.approx(whole - 8 * total * 7 / 8 / GIB)
    assert found[8, "ZeRO-2"] == pytest.approx(whole - 12 * total * 7 / 8 / GIB)
    largest = max(size for own in plan.units.values() for size in own.values())
    roots = sum(own["(root)"] for own in plan.units.values())
    assert found[8, "ZeRO-3"] == pytest.approx((whole * GIB / 8 + 12 * largest + 4 * roots) / GIB)
    assert sum(size for own in plan.units.values() for size in own.values()) == total
    assert largest < 0.15 * total  # else sharding by these units would gain little
    assert json.loads(json.dumps(plan.to_json()))["preset"] == "gigagan-64"


def test_the_policy_names_the_same_units():
    policy = sharding.wrap_policy()
    with torch.device("meta"):
        network = Discriminator(discriminator_config())
    wrapped = policy._run_policy(network, ignored_modules=set(), root_kwargs={})
    assert set(sharding.units(network).values()) <= set(wrapped) - {network}


def test_two_processes_hold_half_each_and_get_the_gradients_of_whole_networks(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = tiny_run.forkserver()
    pair = [
        context.Process(target=sharded_pair.one_of_two, args=(rank, port, str(tmp_path / "found")))
        for rank in range(2)
    ]
    for process in pair:
        process.start()
    for process in pair:
        process.join(timeout=240)
        assert process.exitcode == 0
    for rank in range(2):
        found = json.loads((tmp_path / f"found.{rank}").read_text())
        assert found["worst"] < 1e-3 and found["held"] < 0.55
        assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-5)


def test_a_launch_that_the_trainer_does_not_drive_is_refused():
    for kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        with pytest.raises(WorkbenchError, match=f"launched with {kind.value}.*bench shards"):
            sharding.check_launch(SimpleNamespace(distributed_type=kind))
    sharding.check_launch(SimpleNamespace(distributed_type=DistributedType.MULTI_GPU))


def test_tiny_runs_plan_too():
    assert sharding.plan(tiny_run.tiny_preset(heads=True), gpus=(2,)).parameters["heads"] > 0
