"""Starting from weights that exist: what fits is taken, what does not is named, a stop changes nothing."""

import json
from dataclasses import replace

import pytest
import tiny_run
import torch

from workbench.errors import WorkbenchError
from workbench.models.presets import Preset
from workbench.training import warm_start
from workbench.training.checkpoint import newest
from workbench.training.players import build


def players(inputs, preset: Preset, seed: int):
    return build(preset, tiny_run.tiny_config(seed=seed), inputs[1], "cpu", "fp32")


def deeper() -> Preset:
    """The tiny networks with a second block of G at 8 px."""
    tiny = tiny_run.tiny_preset()
    return replace(tiny, generator=replace(tiny.generator, blocks={4: 1, 8: 2}))


def test_a_run_of_the_same_networks_is_taken_whole(inputs, whole_run):
    given, ours = newest(whole_run)[0].tensors(), players(inputs, tiny_run.tiny_preset(), seed=7)
    taken = warm_start.take_over(ours, whole_run)
    assert taken.shares == {"G": 1.0, "D": 1.0} and taken.fresh == [] and taken.images == 192
    for name in ("G", "D"):
        for key, value in ours.modules()[name].state_dict().items():
            assert torch.equal(value, given[name][key]), key
    assert taken.text == f"Starts from {whole_run} after 192 images: 100% of G, 100% of D."


def test_a_deeper_network_keeps_its_new_block_and_says_so(inputs, whole_run):
    fresh, ours = players(inputs, deeper(), seed=7), players(inputs, deeper(), seed=7)
    taken = warm_start.take_over(ours, whole_run)
    before, after = fresh.G.state_dict(), ours.G.state_dict()
    given = newest(whole_run)[0].tensors()["G"]
    for key, value in after.items():
        assert torch.equal(value, given[key] if key in given else before[key]), key
    assert taken.fresh and all(layer.startswith("G.blocks.8.1") for layer in taken.fresh)
    assert 0.5 < taken.shares["G"] < 1 and "; new: G.blocks.8.1" in taken.text


def test_a_model_folder_gives_g_alone(inputs, whole_run):
    fresh, ours = (players(inputs, tiny_run.tiny_preset(), seed=7) for _ in range(2))
    taken = warm_start.take_over(ours, whole_run / "model")
    assert taken.shares == {"G": 1.0, "D": 0.0} and taken.fresh == [] and taken.images == 192  # by its card
    for key, value in newest(whole_run)[0].tensors()["G_ema"].items():
        assert torch.allclose(ours.G.state_dict()[key], value, atol=2e-3, rtol=1e-3), key  # float16 there
    assert all(torch.equal(a, b) for a, b in zip(fresh.D.parameters(), ours.D.parameters(), strict=True))


def test_a_run_begins_with_them_and_an_interruption_changes_nothing(inputs, whole_run, same_run, tmp_path):
    options = {"start_from": whole_run, "images": 64, "seed": 5}
    tiny_run.run_tiny(inputs, tmp_path / "whole", **options)
    tiny_run.run_tiny(inputs, tmp_path / "stopped", **options, stop_after_nimg=32)
    tiny_run.run_tiny(inputs, tmp_path / "stopped", images=64, seed=5)  # where it started from is on record
    same_run(tmp_path / "whole", tmp_path / "stopped")
    facts = json.loads((tmp_path / "whole" / "config.json").read_text())["started_from"]
    assert facts["source"] == str(whole_run) and facts["images"] == 192
    card = (tmp_path / "whole" / "model" / "README.md").read_text()
    assert f"- **Began from**: {whole_run.name} after 192 images" in card
    tiny_run.run_tiny(inputs, tmp_path / "fresh", images=64, seed=5)
    first, other = (
        (tmp_path / name / "samples" / "grid_000000000.png").read_bytes() for name in ("whole", "fresh")
    )
    assert first != other


def test_heads_that_are_taken_over_keep_the_scale_they_learned_with(inputs, tmp_path):
    def scales(run):
        return newest(run)[0].tensors()["heads"]["projection.scale"]

    first, on, fresh = (tmp_path / name for name in ("first", "on", "fresh"))
    options = {"heads": True, "images": 16}
    tiny_run.run_tiny(inputs, first, **options, seed=5)
    tiny_run.run_tiny(inputs, on, **options, seed=6, start_from=first)  # other pictures come first
    tiny_run.run_tiny(inputs, fresh, **options, seed=6)
    assert torch.equal(scales(on), scales(first)) and not torch.equal(scales(on), scales(fresh))


def test_one_that_was_stopped_before_its_first_checkpoint_starts_from_there_again(
    inputs, whole_run, same_run, tmp_path, monkeypatch
):
    options = {"images": 64, "seed": 5}
    tiny_run.run_tiny(inputs, tmp_path / "whole", start_from=whole_run, **options)

    def power_cut(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("workbench.training.checkpoint.write", power_cut)
        with pytest.raises(KeyboardInterrupt):
            tiny_run.run_tiny(inputs, tmp_path / "stopped", start_from=whole_run, **options)
    tiny_run.run_tiny(inputs, tmp_path / "stopped", **options)
    same_run(tmp_path / "whole", tmp_path / "stopped")


def test_what_cannot_be_started_from_is_refused_in_words(inputs, tmp_path):
    ours = players(inputs, tiny_run.tiny_preset(), seed=7)
    with pytest.raises(WorkbenchError, match=r"There is no model folder .*nowhere"):
        warm_start.take_over(ours, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="is no run and no model: it has neither checkpoints nor"):
        warm_start.take_over(ours, tmp_path / "empty")
    tiny_run.run_tiny(inputs, tmp_path / "large", resolution=16, images=8)
    other = replace(
        tiny_run.tiny_preset().generator, channels={4: 16, 8: 16}, w_dim=24, z_dim=12,
        text_dim=None, cross_attention={},
    )  # fmt: skip
    small = players(inputs, replace(tiny_run.tiny_preset(), generator=other), seed=0)
    with pytest.raises(WorkbenchError, match=r"Next to nothing of .*large fits this G"):
        warm_start.take_over(small, tmp_path / "large")
