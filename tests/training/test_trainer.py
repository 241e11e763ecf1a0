"""The trainer as a whole: exact resume, rollback on NaN, refusals by message, what a run leaves behind."""

import itertools
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import tiny_run
import torch
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline
from workbench.training import checkpoint
from workbench.training.batches import Feed
from workbench.training.history import read_history


def test_a_run_leaves_model_history_grids_and_few_checkpoints(whole_run):
    found = sorted(p.name for p in (whole_run / "checkpoints").iterdir())
    assert found == ["step-000000144", "step-000000192"]
    steps = read_history(whole_run, "step")
    assert [line["cur_nimg"] for line in steps] == list(range(24, 193, 24))
    assert all(line["not_applied"] == 0 and line["images_per_s"] > 0 for line in steps)
    sampled = [line["cur_nimg"] for line in read_history(whole_run, "sample")]
    assert sampled == [0, *range(16, 193, 16)][: len(sampled)]
    assert all((whole_run / line["file"]).is_file() for line in read_history(whole_run, "sample"))
    facts = json.loads((whole_run / "config.json").read_text())
    assert facts["kind"] == "gigagan-run" and len(facts["grid"]["prompts"]) == 36
    pipe = Pipeline.from_pretrained(whole_run / "model", device="cpu")
    assert pipe("a white shepherd in the snow", seed=1).images.shape == (1, 3, 8, 8)


def test_half_of_the_grid_shows_two_z_of_one_prompt(whole_run):
    grid = json.loads((whole_run / "config.json").read_text())["grid"]
    assert grid["prompts"][18::2] == grid["prompts"][19::2]
    assert len(set(grid["seeds"])) == 36


@pytest.mark.parametrize("pause", [8, 72, 96])
def test_paused_and_resumed_equals_uninterrupted(inputs, whole_run, same_run, tmp_path, pause):
    out = tmp_path / "run"
    assert tiny_run.run_tiny(inputs, out, stop_after_nimg=pause).reason == "paused"
    assert tiny_run.run_tiny(inputs, out).reason == "done"
    same_run(whole_run, out)


def test_from_the_very_first_checkpoint_too(inputs, whole_run, same_run, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", stop_after_nimg=8)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000000008")  # as if killed during step 1
    tiny_run.run_tiny(inputs, tmp_path / "run")
    same_run(whole_run, tmp_path / "run")


def test_a_run_begun_by_the_first_version_goes_on_exactly(inputs, whole_run, same_run, tmp_path):
    """Version 1 wrote the same tensors, and a state without what the monitor remembers now."""
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, stop_after_nimg=96)
    for folder in checkpoint.list_checkpoints(run):
        state = json.loads((folder / "state.json").read_text())
        known = ("bad_run", "said", "best_ratio", "jumps", "g_losses")
        monitor = {name: state["monitor"][name] for name in known}
        (folder / "state.json").write_text(json.dumps({**state, "schema": 1, "monitor": monitor}))
    tiny_run.run_tiny(inputs, run)
    same_run(whole_run, run)


def test_vision_heads_resume_exactly_too(inputs, same_run, tmp_path):
    options = {"heads": True, "images": 48, "checkpoint_every_nimg": 16}
    tiny_run.run_tiny(inputs, tmp_path / "a", **options)
    tiny_run.run_tiny(inputs, tmp_path / "b", stop_after_nimg=24, **options)
    tiny_run.run_tiny(inputs, tmp_path / "b", **options)
    same_run(tmp_path / "a", tmp_path / "b")


def test_resuming_leaves_the_callers_randomness_alone(inputs, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=16)
    assert torch.equal(torch.rand(3), expected)


def poison(monkeypatch, steps_hit: set[int], *, once: bool) -> None:
    """Give the named steps a z of NaN; once: only the first time that each is met."""
    original, met = Feed.at, set()

    def at(self, step):
        batch = original(self, step)
        if step in steps_hit and not (once and step in met):
            met.add(step)
            batch.z = batch.z * float("nan")
        return batch

    monkeypatch.setattr(Feed, "at", at)


def test_a_poisoned_step_is_not_applied_and_said(inputs, tmp_path, monkeypatch):
    poison(monkeypatch, {4}, once=True)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=96)
    (event,) = read_history(tmp_path / "run", "event")
    assert event["event"] == "nonfinite" and "1 of the last 3 steps" in event["text"]
    last = checkpoint.newest(tmp_path / "run")[0]
    assert checkpoint.all_finite(t for part in last.tensors().values() for t in part.values())
    assert sum(line["not_applied"] for line in read_history(tmp_path / "run", "step")) == 1


def test_three_poisoned_steps_roll_back_with_half_the_rate(inputs, tmp_path, monkeypatch):
    poison(monkeypatch, {12, 13, 14}, once=True)
    result = tiny_run.run_tiny(inputs, tmp_path / "run")
    assert result.cur_nimg == 192
    (event,) = [line for line in read_history(tmp_path / "run", "event") if line["event"] == "rollback"]
    assert (event["from_nimg"], event["back_to_nimg"]) == (120, 96)
    assert "3 of them came in a row" in event["text"] and "learning rates are now 0.5" in event["text"]
    assert checkpoint.newest(tmp_path / "run")[0].state["lr_multiplier"] == 0.5
    numbers = [line["cur_nimg"] for line in read_history(tmp_path / "run", "step")]
    assert numbers == list(range(24, 193, 24))  # what was taken back is left out
    assert len(read_history(tmp_path / "run", "step", undone=True)) == len(numbers) + 1


def test_hopeless_training_gives_up_and_says_what_to_do(inputs, tmp_path, monkeypatch):
    poison(monkeypatch, {7, 8, 9}, once=False)
    with pytest.raises(WorkbenchError, match=r"went back 6 times and still diverges.*lower lr_G"):
        tiny_run.run_tiny(inputs, tmp_path / "run")
    assert checkpoint.newest(tmp_path / "run")[0].cur_nimg == 48


def test_a_run_of_other_settings_is_refused_with_what_differs(inputs, whole_run):
    with pytest.raises(WorkbenchError, match=r"lr_G 0\.0006, now 0\.001.*--resume extend"):
        tiny_run.run_tiny(inputs, whole_run, lr_G=1e-3)
    with pytest.raises(WorkbenchError, match="seed 0, now 4"):
        tiny_run.run_tiny(inputs, whole_run, seed=4)
    with pytest.raises(WorkbenchError, match="already holds a run"):
        tiny_run.run_tiny(inputs, whole_run, resume="never")


def test_foreign_folders_are_refused_and_stay_as_they_are(inputs, tmp_path):
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(WorkbenchError, match=r"holds other files .holiday.txt"):
        tiny_run.run_tiny(inputs, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"kind": "gigagan-pipeline", "schema": 1}')
    with pytest.raises(WorkbenchError, match=r"gigagan-pipeline.*belongs to something else"):
        tiny_run.run_tiny(inputs, tmp_path / "model")
    (tmp_path / "file").write_text("")
    with pytest.raises((WorkbenchError, OSError), match="file"):
        tiny_run.run_tiny(inputs, tmp_path / "file")
    with pytest.raises(WorkbenchError, match=r"no run in .* to extend"):
        tiny_run.run_tiny(inputs, tmp_path / "new", resume="extend")


def test_missing_data_is_named_and_leaves_no_run(inputs, tmp_path):
    with pytest.raises(WorkbenchError, match="no data set folder"):
        tiny_run.run_tiny((tmp_path / "nowhere", inputs[1]), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_extend_goes_on_with_a_larger_budget(inputs, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", images=48)
    result = tiny_run.run_tiny(inputs, tmp_path / "run", images=96, resume="extend")
    assert result.cur_nimg == 96
    (event,) = read_history(tmp_path / "run", "event")
    assert event["cur_nimg"] == 48 and "images 48 -> 96" in event["text"]
    with pytest.raises(WorkbenchError, match="seed 0, now 1"):
        tiny_run.run_tiny(inputs, tmp_path / "run", images=96, seed=1, resume="extend")


def damage(folder) -> None:
    data = bytearray((folder / "G.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "G.safetensors").write_bytes(data)


def test_a_damaged_checkpoint_costs_no_later_one(inputs, whole_run, same_run, tmp_path):
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, stop_after_nimg=160)
    damage(checkpoint.list_checkpoints(run)[-1])
    tiny_run.run_tiny(inputs, run, stop_after_nimg=160)
    assert checkpoint.newest(run)[0].cur_nimg == 160  # "saved", and so it is
    tiny_run.run_tiny(inputs, run)
    same_run(run, whole_run)


def test_weights_taken_over_survive_a_damaged_checkpoint(inputs, whole_run, same_run, tmp_path):
    """With its only checkpoint damaged, a run begins as it began: from the weights of the other run."""
    run, other, options = tmp_path / "run", tmp_path / "other", {"images": 32, "start_from": whole_run}
    tiny_run.run_tiny(inputs, run, **options, stop_after_nimg=8)
    for folder in checkpoint.list_checkpoints(run):
        damage(folder)
    tiny_run.run_tiny(inputs, run, **options)
    tiny_run.run_tiny(inputs, other, **options)
    same_run(run, other)


def test_extend_that_adds_or_takes_a_network_is_refused_and_bars_nothing(inputs, tmp_path):
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, heads=True, vision_weight=0.0, images=16)
    changed = {"heads": True, "images": 32, "resume": "extend"}
    with pytest.raises(WorkbenchError, match=r"vision_weight 0\.0, now 1\.0.*--start-from"):
        tiny_run.run_tiny(inputs, run, vision_weight=1.0, **changed)
    assert tiny_run.run_tiny(inputs, run, heads=True, vision_weight=0.0, images=16).cur_nimg == 16
    tiny_run.run_tiny(inputs, run, vision_weight=0.0, **changed)
    facts = json.loads((run / "config.json").read_text())
    assert facts["config"]["images"] == 32


def test_the_rate_after_a_pause_counts_the_time_before_it(inputs, tmp_path):
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, log_every_nimg=96, stop_after_nimg=88)
    tiny_run.run_tiny(inputs, run, log_every_nimg=96)
    for before, line in itertools.pairwise(read_history(run, "step")):
        images, seconds = line["cur_nimg"] - before["cur_nimg"], line["seconds"] - before["seconds"]
        assert line["images_per_s"] == pytest.approx(images / seconds, rel=0.3)
    first = read_history(run, "step")[0]
    assert first["images_per_s"] == pytest.approx(first["cur_nimg"] / first["seconds"], rel=0.3)


def test_a_sheet_of_an_upsampler_has_its_four_columns(inputs, tmp_path):
    result = tiny_run.run_tiny(inputs, tmp_path / "run", upsamples=True, grid=(3, 2), images=8)
    with Image.open(result.run / "samples" / "grid_000000000.png") as sheet:
        assert sheet.size == (4 * 16, 2 * 16)


@pytest.mark.usefixtures("few_prompts")
def test_evaluations_are_written_and_the_best_checkpoint_is_kept(inputs, tmp_path, monkeypatch):
    from workbench.evaluation.features import Judge, JudgeConfig

    monkeypatch.chdir(tmp_path)  # the cache of renders lies in runs/ below
    Judge(JudgeConfig(resolution=16, channels=(8, 8))).save_pretrained(tmp_path / "judge")
    options = {"resolution": 16, "images": 64, "eval_every_nimg": 16, "eval_n": 8, "keep_checkpoints": 1}
    tiny_run.run_tiny(inputs, tmp_path / "run", judge=tmp_path / "judge", **options)
    found = read_history(tmp_path / "run", "eval")
    assert [line["cur_nimg"] for line in found] == [16, 32, 48, 64]
    assert {"n", "coat", "all", "frechet", "floor", "diversity"} <= found[0].keys()
    best = min(found, key=lambda line: line["frechet"] / line["floor"])
    kept = [int(p.name[5:]) for p in checkpoint.list_checkpoints(tmp_path / "run")]
    assert kept == sorted({best["cur_nimg"], 64})
    assert checkpoint.best(tmp_path / "run").cur_nimg == best["cur_nimg"]


def test_two_trainers_never_share_a_folder(inputs, tmp_path):
    from workbench.training import runs

    with runs.held(tmp_path / "run"), pytest.raises(WorkbenchError, match="Another training"):
        tiny_run.run_tiny(inputs, tmp_path / "run", images=16)


def test_trains_outside_of_the_main_thread(inputs, tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(tiny_run.run_tiny(inputs, tmp_path / "run", images=16))
    )
    thread.start()
    thread.join()
    assert found[0].reason == "done"


def test_ctrl_c_finishes_the_step_saves_and_can_go_on(inputs, whole_run, same_run, tmp_path):
    process = tiny_run.start_process(inputs, tmp_path / "run", tmp_path / "said.txt")
    wait_for_line(tmp_path / "run", 24)
    os.kill(process.pid, signal.SIGINT)
    process.join(600)
    said = (tmp_path / "said.txt").read_text()
    assert process.exitcode == 0 and "Finishing this step" in said and "Stopped at" in said, said
    stopped = checkpoint.newest(tmp_path / "run")[0].cur_nimg
    assert 24 <= stopped < 192 and (tmp_path / "run" / "model" / "config.json").is_file()
    tiny_run.run_tiny(inputs, tmp_path / "run")
    same_run(whole_run, tmp_path / "run")


def test_two_processes_make_one_run_with_the_same_weights_though_one_comes_late(inputs, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = tiny_run.start_pair(inputs, tmp_path / "run", port, late=3.0)
    for process in pair:
        process.join(300)
        process.kill()  # hanging, it would hold up the end of all tests
    assert [process.exitcode for process in pair] == [0, 0]
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert one == other
    assert [line["cur_nimg"] for line in read_history(tmp_path / "run", "step")] == [24, 48, 64]


def wait_for_line(run: Path, cur_nimg: int, seconds: float = 600.0) -> None:
    """Until the history has come to cur_nimg."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = run / "history.jsonl"
        if path.is_file() and f'"cur_nimg": {cur_nimg}, "step"' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{run} did not come to {cur_nimg} images in {seconds} s")


def test_a_pause_before_the_first_image_is_refused(inputs, tmp_path):
    with pytest.raises(WorkbenchError, match="stop_after_nimg is 0: expected a whole number of at least 1"):
        tiny_run.run_tiny(inputs, tmp_path / "run", stop_after_nimg=0)
    assert not (tmp_path / "run").exists()
