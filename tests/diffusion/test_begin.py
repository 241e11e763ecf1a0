"""A baseline and a student that begin with the weights of another, and count on."""

import json
import shutil
from dataclasses import replace

import killing
import pytest
import torch
from tiny_diffusion_run import run_baseline, run_student

from workbench.diffusion import folder
from workbench.diffusion.model import DiffusionModel
from workbench.errors import WorkbenchError
from workbench.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def first_of(run):
    return checkpoint.read(min((run / checkpoint.FOLDER).iterdir())).tensors()


def card_of(model):
    return json.loads((model / "config.json").read_text())["card"]


def test_a_run_goes_on_from_a_baseline_and_counts_on(inputs, whole, tmp_path):
    run_baseline(inputs, tmp_path / "on", images=32, seed=3, start_from=whole / "model")
    first = checkpoint.read(min((tmp_path / "on" / checkpoint.FOLDER).iterdir())).tensors()
    given = DiffusionModel.from_pretrained(whole / "model", device="cpu").unet.state_dict()
    for part in ("unet", "unet_ema"):
        assert all(torch.equal(value, given[name]) for name, value in first[part].items())
    facts = json.loads((tmp_path / "on" / "config.json").read_text())
    assert facts["config"]["earlier_nimg"] == 96 and facts["started_from"]["images"] == 96
    card, before = (
        json.loads((run / "model" / "config.json").read_text())["card"] for run in (tmp_path / "on", whole)
    )
    assert card["images"] == 128 and card["seconds"] > before["seconds"]

    run_baseline(
        inputs, tmp_path / "stopped", images=32, seed=3, start_from=whole / "model", stop_after_nimg=8
    )
    run_baseline(inputs, tmp_path / "stopped", images=32, seed=3)  # where it started from is on record
    assert killing.differences(tmp_path / "on", tmp_path / "stopped") == []


def test_what_a_baseline_cannot_start_from_is_refused(inputs, whole, tmp_path):
    with pytest.raises(WorkbenchError, match=r"U-Net of .* start from a baseline of the same preset"):
        run_baseline(inputs, tmp_path / "a", network=None, start_from=whole / "model")
    with pytest.raises(WorkbenchError, match="no model folder"):
        run_baseline(inputs, tmp_path / "a", start_from=tmp_path / "nowhere")
    assert not (tmp_path / "a").exists()


def test_a_student_goes_on_from_a_student_and_counts_on(inputs, teacher, tmp_path):
    old = run_student(inputs, teacher, tmp_path / "old", images=16).model
    other = run_baseline(inputs, tmp_path / "other", images=32, seed=5).model  # a later teacher of its shape
    on = run_student(inputs, other, tmp_path / "on", images=16, start_from=old).model
    given = folder.read_adapters(old)[1]
    first = first_of(tmp_path / "on")
    for part in ("adapter", "adapter_ema"):
        assert first[part].keys() == {name.replace(".", "/") for name in given}
        assert all(torch.equal(first[part][name.replace(".", "/")], value) for name, value in given.items())
    card, before = card_of(on), card_of(old)
    assert card["images"] == 32 and card["seconds"] > before["seconds"]
    assert card["teacher_images"] == card_of(other)["images"]
    facts = json.loads((tmp_path / "on" / "config.json").read_text())
    assert facts["config"]["earlier_nimg"] == 16 and facts["started_from"]["source"] == str(old)
    assert DiffusionModel.from_pretrained(on, device="cpu").teacher["name"] == "other"

    run_student(inputs, other, tmp_path / "stopped", images=16, start_from=old, stop_after_nimg=8)
    run_student(inputs, other, tmp_path / "stopped", images=16)  # where it started from is on record
    assert killing.differences(tmp_path / "on", tmp_path / "stopped") == []


def test_what_a_student_cannot_start_from_is_refused(inputs, teacher, tmp_path):
    old = run_student(inputs, teacher, tmp_path / "old", images=8).model
    for source, options, match in (
        (teacher, {}, "is no few-step student"),
        (tmp_path / "nowhere", {}, "no model folder"),
        (old, {"rank": 3}, "of rank 2 on 9 kinds of layers, this run's of rank 3 .* give --rank 2"),
    ):
        with pytest.raises(WorkbenchError, match=match):
            run_student(inputs, teacher, tmp_path / "a", start_from=source, **options)
    wide = DiffusionModel.from_pretrained(teacher, device="cpu").config
    wide = replace(wide, widths=(wide.widths[0], wide.widths[1] + 32))
    wider = run_baseline(inputs, tmp_path / "wide", images=8, network=wide).model
    with pytest.raises(WorkbenchError, match="does not fit this teacher"):
        run_student(inputs, wider, tmp_path / "a", start_from=old)
    damaged = tmp_path / "damaged"
    shutil.copytree(old, damaged)
    (damaged / folder.STUDENT_WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match=r"is not the file that config\.json describes"):
        run_student(inputs, teacher, tmp_path / "a", start_from=damaged)
    assert not (tmp_path / "a").exists()


def test_weights_that_changed_since_are_refused(inputs, teacher, tmp_path):
    old = run_student(inputs, teacher, tmp_path / "old", images=8).model
    run_student(inputs, teacher, tmp_path / "on", images=8, start_from=old)
    shutil.rmtree(tmp_path / "on" / checkpoint.FOLDER)  # as if killed before the first was written
    shutil.copytree(run_student(inputs, teacher, tmp_path / "new", images=16).model, old, dirs_exist_ok=True)
    with pytest.raises(WorkbenchError, match="holds other weights than when this run began"):
        run_student(inputs, teacher, tmp_path / "on", images=8)
