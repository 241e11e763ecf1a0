"""Sets drawn by Flux, end to end with a tiny pipeline: loading, drawing, interruptions, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from folders import contents
from PIL import Image
from stopped_drawing import kill_while_drawing
from tiny_flux import tiny_flux

from workbench.datasets.flux import pipeline
from workbench.datasets.flux.folder import FluxConfig, write_flux
from workbench.datasets.flux.templates import Templates
from workbench.datasets.rows import read_folder
from workbench.errors import WorkbenchError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return tiny_flux(tmp_path_factory.mktemp("flux") / "tiny")


def config(weights: Path | str, **changes) -> FluxConfig:
    return FluxConfig(
        **{"count": 10, "seed": 3, "resolution": 16, "native": 32, "model": str(weights)} | changes
    )


def draw(path: Path, weights: Path | str, *, batch: int = 4, say=None, **changes) -> Path:
    return write_flux(path, config(weights, **changes), device="cpu", batch=batch, progress=False, say=say)


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("set") / "whole", weights)


# ---------------------------------------------------------------- what is drawn


def test_a_set_holds_prompts_seeds_and_the_model(whole):
    rows = read_folder(whole)
    assert len(rows) == 10
    for index, row in enumerate(rows):
        prompt = Templates().prompt(3, index)
        made = {"prompt": prompt.prompt, "seed": prompt.seed, "model": "tiny", "revision": None}
        assert (row.text, row.factors) == (prompt.caption, made | prompt.factors)
    facts = json.loads((whole / "dataset.json").read_text())
    assert (facts["kind"], facts["count"], facts["native_size"], facts["steps"]) == ("flux", 10, 32, 4)
    assert "tiny (a local folder) in 4 steps at 32 px" in (whole / "README.md").read_text()
    assert len({file.read_bytes() for file in (whole / "images").iterdir()}) == 10


def test_plain_diffusers_draws_the_same_from_a_line_of_the_metadata(whole, weights):
    row = read_folder(whole)[6]
    pipe = FluxPipeline.from_pretrained(weights, dtype=torch.float32)
    picture = pipe(
        row.factors["prompt"],
        num_inference_steps=4,
        guidance_scale=0.0,
        height=32,
        width=32,
        max_sequence_length=256,
        generator=torch.Generator("cpu").manual_seed(row.factors["seed"]),
    ).images[0]
    again = np.asarray(picture.resize((16, 16), Image.Resampling.LANCZOS), dtype=np.int16)
    apart = np.abs(again - np.asarray(Image.open(whole / row.file_name)))
    assert apart.max() <= 2  # alone and in a batch of four round differently
    other = np.asarray(Image.open(whole / read_folder(whole)[7].file_name), dtype=np.int16)
    assert np.abs(again - other).max() > 2


def test_another_batch_asks_for_the_same_pictures(whole, weights, tmp_path):
    other = draw(tmp_path / "other", weights, batch=3)
    assert (other / "metadata.jsonl").read_bytes() == (whole / "metadata.jsonl").read_bytes()
    for name in contents(whole / "images"):
        one, two = (np.asarray(Image.open(f / "images" / name), dtype=np.int16) for f in (whole, other))
        assert np.abs(one - two).max() <= 2


def test_time_and_disk_are_told(weights, tmp_path):
    told = []
    draw(tmp_path / "set", weights, batch=2, say=told.append)
    assert told[0] == "10 pictures to draw, about 1 MB on disk."
    assert told[1].startswith("On cpu, offload none, 2 at once")
    assert "s a picture, and 1 MB on disk" in told[2] and len(told) == 3


# ---------------------------------------------------------------- interruptions


def test_a_killed_run_goes_on_to_the_same_bytes(weights, tmp_path):
    target = tmp_path / "killed"
    script = (
        "from workbench.datasets.flux.folder import FluxConfig, write_flux\n"
        f"config = FluxConfig(count=40, seed=3, resolution=16, native=32, model={str(weights)!r})\n"
        f"write_flux({str(target)!r}, config, device='cpu', batch=4, progress=False)\n"
    )
    kill_while_drawing(script, target)
    assert 6 <= len(list(target.glob("images/*.png"))) < 40
    with pytest.raises(WorkbenchError, match="interrupted"):
        read_folder(target)
    # One gone from the middle of a batch, one cut short by a power loss.
    (target / "images/000001.png").unlink()
    (target / "images/000003.png").write_bytes(b"half a picture")
    assert contents(draw(target, weights, count=40)) == contents(
        draw(tmp_path / "at once", weights, count=40)
    )


def test_a_whole_set_needs_no_weights(whole, weights, tmp_path):
    copy, gone = tmp_path / "copy", tmp_path / "tiny"
    shutil.copytree(whole, copy)
    gone.mkdir()
    shutil.copy(weights / "model_index.json", gone)
    assert contents(draw(copy, gone)) == contents(whole)


def test_another_set_is_refused_and_stays(whole, weights, tmp_path):
    target = tmp_path / "set"
    shutil.copytree(whole, target)
    for changes, message in (
        ({"seed": 4}, "seed 3, not 4"),
        ({"native": 64}, "native size 32, not 64"),
        ({"templates": Templates(style="")}, "a set with templates"),
        ({"count": 9}, "10 pictures already"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            draw(target, weights, **changes)
    assert contents(target) == contents(whole)
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match="is a file"):
        draw(tmp_path / "file", weights)


def test_a_disk_too_small_is_refused_before_weights_are_loaded(weights, tmp_path):
    with pytest.raises(WorkbenchError, match=r"needs about [\d.]+ GB more and its disk has"):
        draw(tmp_path / "set", weights, count=1_000_000, resolution=2048, native=2048)
    assert not list((tmp_path / "set/images").iterdir())


# ---------------------------------------------------------------- weights


@pytest.fixture
def hub_cache(weights, tmp_path, monkeypatch) -> Path:
    """The cache of the Hub's client with the tiny pipeline as lab/tiny."""
    repo = tmp_path / "hub/models--lab--tiny"
    shutil.copytree(weights, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repo


def test_a_name_on_the_hub_is_found_in_its_cache_with_its_commit(hub_cache, tmp_path):
    folder = draw(tmp_path / "set", "lab/tiny", count=2)
    assert {row.factors["revision"] for row in read_folder(folder)} == {COMMIT}
    assert json.loads((folder / "dataset.json").read_text())["model"] == "lab/tiny"
    assert COMMIT in (folder / "README.md").read_text()
    # The same files under another version are another set.
    other = "f" * 40
    (hub_cache / "snapshots" / COMMIT).rename(hub_cache / "snapshots" / other)
    (hub_cache / "refs/main").write_text(other)
    with pytest.raises(WorkbenchError, match=f"revision '{COMMIT}', not '{other}'"):
        draw(tmp_path / "set", "lab/tiny", count=3)
    with pytest.raises(WorkbenchError, match=r"`hf download lab/tiny --revision v2`"):
        draw(tmp_path / "more", "lab/tiny", revision="v2")


def test_missing_weights_are_told_with_the_command_that_brings_them(hub_cache, tmp_path):
    with pytest.raises(WorkbenchError) as caught:
        draw(tmp_path / "set", pipeline.MODEL)
    command = (
        "hf download black-forest-labs/FLUX.1-schnell --exclude flux1-schnell.safetensors "
        "--exclude ae.safetensors` (34.0 GB)"
    )
    assert command in str(caught.value) and "--download" in str(caught.value)
    assert not (tmp_path / "set").exists()
    with pytest.raises(WorkbenchError, match="could not be fetched"):
        write_flux(tmp_path / "set", config("lab/none"), device="cpu", download=True, progress=False)
    next((hub_cache / "snapshots" / COMMIT / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(WorkbenchError, match=r"`hf download lab/tiny`.*What is there cannot be loaded"):
        draw(tmp_path / "set", "lab/tiny")


def test_folders_that_are_no_pipeline_are_refused(weights, tmp_path):
    with pytest.raises(WorkbenchError, match=r"holds no model_index\.json"):
        draw(tmp_path / "set", tmp_path)
    pickled = tmp_path / "pickled"
    shutil.copytree(weights, pickled)
    file = pickled / "vae/diffusion_pytorch_model.safetensors"
    torch.save({}, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(WorkbenchError, match="cannot be loaded as a Flux pipeline"):
        draw(tmp_path / "set", pickled)


def test_code_beside_weights_is_never_run(weights, tmp_path):
    evil, mark = tmp_path / "evil", tmp_path / "it ran"
    shutil.copytree(weights, evil)
    code = f"open({str(mark)!r}, 'w')\nclass AutoencoderKL: pass\n"
    for place in ("vae/mine.py", "pipeline.py", "mine.py"):
        (evil / place).write_text(code)
    index = json.loads((evil / "model_index.json").read_text())
    for changed in ({"vae": ["mine", "AutoencoderKL"]}, {"_class_name": ["mine", "FluxPipeline"]}):
        (evil / "model_index.json").write_text(json.dumps(index | changed))
        with pytest.raises(WorkbenchError, match="cannot be loaded"):
            draw(tmp_path / "set", evil)
    assert not mark.exists()


# ---------------------------------------------------------------- machine and request

SCHNELL = {"transformer": 23.8e9, "text_encoder_2": 9.5e9, "text_encoder": 0.25e9, "vae": 0.17e9}


@pytest.mark.parametrize(
    ("free", "native", "offload", "batch"),
    [
        (80e9, 512, "none", 16),
        (40e9, 512, "none", 3),
        (40e9, 1024, "model", 2),
        (32e9, 512, "model", 4),
        (24e9, 512, "sequential", 14),
        (8e9, 512, "sequential", 4),
        (2e9, 512, "sequential", 1),
    ],
)
def test_offload_and_batch_follow_from_free_memory(free, native, offload, batch):
    assert pipeline.fit(SCHNELL, free, native) == pipeline.Fit(offload=offload, batch=batch)


def test_what_is_asked_for_is_taken():
    chosen = pipeline.fit(SCHNELL, 80e9, 512, offload="sequential", batch=64)
    assert chosen == pipeline.Fit(offload="sequential", batch=64)


@NO_GPU
def test_without_a_gpu_the_time_on_this_cpu_is_told(weights, tmp_path):
    with pytest.raises(WorkbenchError, match=r"no CUDA GPU here.* a picture, .* for 10, in .*--device cpu"):
        write_flux(tmp_path / "set", config(weights), progress=False)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"seed": -1}, "negative"),
        ({"resolution": 8}, "resolution is 8"),
        ({"native": 40}, "expected a multiple of 16"),
        ({"native": 16, "resolution": 32}, "never enlarged"),
        ({"native": 4096}, "native size is 4096"),
    ],
)
def test_senseless_requests_are_refused(changes, message):
    with pytest.raises(WorkbenchError, match=message):
        config("anything", **changes)


def test_a_senseless_batch_is_refused(weights, tmp_path):
    with pytest.raises(WorkbenchError, match="batch is 0"):
        draw(tmp_path / "set", weights, batch=0)
