"""Training of the mini-CLIP: what counts as a match, that true pairs come closer, that an interruption
changes nothing.
"""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from workbench import hardware
from workbench.datasets import world
from workbench.datasets.loading import PictureTable
from workbench.datasets.world import captions
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.models.text import load_clip
from workbench.models.tokens import FUNCTION_WORDS
from workbench.noise import generator_for
from workbench.training.clip import ClipTrainer, ClipTraining, train_clip
from workbench.training.clip_parts import augment, multi_positive_contrast, positives, reword, short_caption
from workbench.training.zero_shot import class_prompts, zero_shot

MACHINE = hardware.Machine(device="cpu", precision="fp32", cores=1, memory_gib=1.0, cpu="test")
TINY = ClipTraining(images=16 * 6, batch=16, held_out=4)


@pytest.fixture(scope="module")
def table() -> PictureTable:
    """40 renders; the training itself is told from them at 64 px."""
    return PictureTable.from_world(3, 40, 64)


def run(table, out, **options):
    return train_clip(table, out, training=TINY, precision="fp32", device="cpu", progress=False, **options)


def test_with_one_positive_the_loss_is_the_cross_entropy():
    logits = torch.randn(5, 5, generator=generator_for(0))
    loss = multi_positive_contrast(logits, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(5)))


def test_several_positives_do_not_push_each_other_away():
    logits = torch.tensor([[1.0, 2.0, -1.0, 0.5]], requires_grad=True)
    match = torch.tensor([[True, True, False, False]])
    loss = multi_positive_contrast(logits, match)
    negatives = torch.tensor([-1.0, 0.5]).logsumexp(0)
    expected = sum(torch.log1p(torch.exp(negatives - p)) for p in (1.0, 2.0)) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad[match] < 0).all() and (logits.grad[~match] > 0).all()


def test_rows_without_negatives_or_positives_cost_nothing():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = multi_positive_contrast(logits, torch.tensor([[True] * 3, [False] * 3]))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6) and torch.isfinite(logits.grad).all()


def test_a_caption_matches_every_picture_it_is_true_of():
    known = [
        {"coat": "white", "pose": "sitting", "scene": "snow", "light": "night"},
        {"coat": "white", "pose": "lying", "scene": "beach", "light": "day"},
        {"coat": "red", "pose": "sitting", "scene": "snow", "light": "night"},
    ]
    texts = ["a white dog", "a white dog lying on the beach", "a dog sitting in the snow at night"]
    match = positives(texts, known, torch.arange(3))
    assert match.tolist() == [[True, True, False], [False, True, False], [True, False, True]]


def test_without_known_factors_equal_texts_match():
    match = positives(["a white dog", "a black cat", "a white dog"], [{}] * 3, torch.tensor([0, 1, 0]))
    assert match.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_every_caption_drawn_is_true_of_its_picture(table):
    trainer = ClipTrainer(table, TINY, MACHINE)
    kinds = set()
    for step in range(20):
        rows = trainer.rows_at(step)
        for text, row in zip(trainer.texts_at(step, rows), rows.tolist(), strict=True):
            claim = captions.named_factors(text)
            assert claim and claim.items() <= table.known[row].items(), text
            assert trainer.clip.tokenizer.unknown_words(text) == []
            kinds.add(len(claim))
        assert not set(rows.tolist()) & set(trainer.held_rows.tolist())
    assert kinds == {1, 2, 3, 4}


def test_an_epoch_shows_every_picture_at_most_once(table):
    trainer = ClipTrainer(table, TINY, MACHINE)
    epoch = torch.cat([trainer.rows_at(0), trainer.rows_at(1)])
    assert len(epoch.unique()) == 32
    assert torch.equal(trainer.rows_at(1), ClipTrainer(table, TINY, MACHINE).rows_at(1))
    assert not torch.equal(trainer.rows_at(0), trainer.rows_at(2))


def test_rewording_keeps_the_claims():
    rng, known = random.Random(0), {"coat": "sable", "pose": "lying", "scene": "park", "light": "sunset"}
    plain, changed = set(FUNCTION_WORDS), 0
    for _ in range(200):
        text = short_caption(known, rng)
        again = reword(text, rng)
        assert [w for w in again.split() if w not in plain] == [w for w in text.split() if w not in plain]
        changed += again != text
    assert 40 < changed < 160


def test_augmentation_is_light_and_repeatable(table):
    pixels = table.images[:8]
    x, target = augment(pixels, generator_for(0))
    assert x.shape == target.shape == (8, 3, 64, 64) and x.is_contiguous(memory_format=torch.channels_last)
    plain = pixels.float() / 127.5 - 1
    straight, mirrored = ((target - y).abs().mean(dim=(1, 2, 3)) for y in (plain, plain.flip(3)))
    assert torch.minimum(straight, mirrored).max() < 0.15 and (x - target).abs().mean() < 0.06
    assert torch.equal(augment(pixels, generator_for(0))[0], x)


FOUR_DOGS = (
    {"coat": "white", "pose": "standing", "scene": "park", "light": "day"},
    {"coat": "black", "pose": "lying", "scene": "snow", "light": "night"},
    {"coat": "red", "pose": "sitting", "scene": "studio", "light": "sunset"},
    {"coat": "sable", "pose": "lying", "scene": "beach", "light": "day"},
)


def test_true_pairs_come_closer(table):
    """A real training on four dogs, four renders each: captions lie nearer to what they are true of."""
    factors = [world.draw_factors(5, k, **FOUR_DOGS[k % 4]) for k in range(16)]
    images = torch.from_numpy(to_uint8(world.render(factors, 64))).permute(0, 3, 1, 2)
    texts = [captions.full_caption(f, 5, k) for k, f in enumerate(factors)]
    known = [FOUR_DOGS[k % 4] for k in range(16)]
    four = replace(table, images=images, texts=texts, groups=torch.arange(16) % 4, known=known)
    trainer = ClipTrainer(four, ClipTraining(images=16 * 24, batch=16, held_out=0), MACHINE)
    pictures, match = images.float() / 127.5 - 1, positives(texts, known, four.groups)

    def margin() -> float:
        trainer.clip.model.eval()
        with torch.no_grad():
            alike = trainer.clip.encode_text(texts) @ trainer.clip.encode_image(pictures).T
        trainer.clip.model.train()
        return (alike[match].mean() - alike[~match].mean()).item()

    before = margin()
    lines = [trainer.train_step() for _ in range(24)]
    assert abs(before) < 0.01 and margin() > 0.05
    assert sum(line["contrast"] for line in lines[-4:]) < 0.8 * sum(line["contrast"] for line in lines[:4])
    assert lines[-1]["reconstruction"] < 0.8 * lines[0]["reconstruction"]


def test_an_interruption_changes_no_bit(table, tmp_path):
    run(table, tmp_path / "whole")
    assert run(table, tmp_path / "parts", stop_at=3) == {}
    state = tmp_path / "parts.training"
    assert not (tmp_path / "parts").exists() and (state / "state.safetensors").is_file()
    with (state / "history.jsonl").open("a") as file:  # a crash after the state was saved leaves later lines
        file.write(json.dumps({"kind": "step", "cur_nimg": 99999}) + "\n")
    with pytest.raises(WorkbenchError, match="holds a training that was begun: pass resume"):
        run(table, tmp_path / "parts")
    with pytest.raises(WorkbenchError, match=r"of another training \(seed 0 → 1\)"):
        run(table, tmp_path / "parts", resume=True, seed=1)
    results = run(table, tmp_path / "parts", resume=True)
    assert set(results) == set(captions.FACTOR_NAMES)
    a, b = load_clip(tmp_path / "whole"), load_clip(tmp_path / "parts")
    for key, value in a.model.state_dict().items():
        assert torch.equal(b.model.state_dict()[key], value), key
    seen = [
        json.loads(line)["cur_nimg"]
        for line in (tmp_path / "parts" / "history.jsonl").read_text().splitlines()
    ]
    assert seen == [16, 32, 48, 64, 80, 96]
    assert not state.exists() and b.facts["zero_shot"] == results
    with pytest.raises(WorkbenchError, match="already holds files"):
        run(table, tmp_path / "parts")


def test_ctrl_c_saves(table, tmp_path, monkeypatch, capsys):
    real, calls = ClipTrainer.train_step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(ClipTrainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_clip(table, tmp_path / "out", training=TINY, precision="fp32", device="cpu")
    assert "everything is saved" in capsys.readouterr().out
    trainer = ClipTrainer(table, TINY, MACHINE)
    trainer.load(tmp_path / "out.training")
    assert trainer.step == 2


def test_a_damaged_state_is_refused(table, tmp_path):
    run(table, tmp_path / "out", stop_at=1)
    path = tmp_path / "out.training" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WorkbenchError, match="is damaged"):
        run(table, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images is 0: expected a whole number of at least 2"),
        ({"batch": 1}, "batch is 1"),
        ({"images": 8, "batch": 16}, "at most the 8 images"),
        ({"lr": 0.0}, "must be above 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(WorkbenchError, match=message):
        ClipTraining(**options)


def test_data_that_do_not_fit_are_refused(table, tmp_path):
    with pytest.raises(WorkbenchError, match="at most the 36 pictures"):
        run(table, tmp_path / "out", batch=64)
    with pytest.raises(WorkbenchError, match="have 16 px: expected 64"):
        run(replace(table, images=table.images[..., :16, :16]), tmp_path / "out")
    with pytest.raises(WorkbenchError):
        train_clip(tmp_path / "nowhere", tmp_path / "out", progress=False)
    assert not Path(tmp_path / "out").exists()
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(WorkbenchError, match=r"thesis\.tex is a file; choose another folder"):
        run(table, tmp_path / "thesis.tex")


def test_a_full_disk_keeps_the_last_state(table, tmp_path, largest_file):
    run(table, tmp_path / "out", stop_at=1)
    folder = tmp_path / "out.training"
    before = (folder / "state.safetensors").read_bytes()
    with largest_file(100_000), pytest.raises(OSError, match=r"Cannot write .*state\.safetensors: "):
        run(table, tmp_path / "out", resume=True, stop_at=2)
    assert (folder / "state.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["history.jsonl", "state.safetensors"]


def test_own_captions_bring_their_own_words(table):
    own = replace(
        table,
        known=[{}] * 40,
        texts=[f"a zebra number{k % 4}" for k in range(40)],
        groups=torch.arange(40) % 4,
    )
    trainer = ClipTrainer(own, TINY, MACHINE)
    assert trainer.clip.tokenizer.unknown_words("a zebra with a hat") == ["hat"]
    assert trainer.train_step()["contrast"] > 0 and trainer.accuracy() == {}


class Oracle:
    """Stands for a Clip whose embeddings are right by construction: classes are axes, a picture shows its
    factors.
    """

    def __init__(self, known):
        self.axes = {
            (f, name): k
            for k, (f, name) in enumerate((f, n) for f in captions.FACTOR_NAMES for n in class_prompts(f))
        }
        self.known, self.device, self.model = known, "cpu", torch.nn.Identity()

    def encode_text(self, texts):
        rows = [[self.axes[item] for item in captions.named_factors(text).items()] for text in texts]
        return torch.stack([F.one_hot(torch.tensor(row), len(self.axes)).sum(0).float() for row in rows])

    def encode_image(self, pictures):
        rows = [[self.axes[item] for item in self.known[int(i)].items()] for i in pictures[:, 0, 0, 0]]
        return torch.stack([F.one_hot(torch.tensor(row), len(self.axes)).sum(0).float() for row in rows])


def test_zero_shot_of_an_oracle(table):
    """All right by construction; with two coats told wrongly, 38 of 40."""
    pictures = torch.arange(40.0).view(40, 1, 1, 1)
    assert zero_shot(Oracle(table.known), pictures, table.known) == dict.fromkeys(captions.FACTOR_NAMES, 1.0)
    wrong = [dict(k) for k in table.known]
    for k in (0, 1):
        wrong[k]["coat"] = "red" if wrong[k]["coat"] != "red" else "black"
    result = zero_shot(Oracle(table.known), pictures, wrong, batch=7, per_class=True)
    assert result["coat"] == 0.95 and result["pose"] == 1.0 and result["scene/snow"] == 1.0


@pytest.mark.parametrize("factor", captions.FACTOR_NAMES)
def test_every_prompt_names_its_class_alone(factor):
    for name, prompts in class_prompts(factor).items():
        assert len(prompts) >= 8
        for prompt in prompts:
            assert captions.named_factors(prompt) == {factor: name}, prompt
