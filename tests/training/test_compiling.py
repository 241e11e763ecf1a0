"""Compiled passes give what the plain ones give; a machine without a compiler is told so before a run."""

import copy

import pytest
import tiny_run
import torch

from workbench.errors import WorkbenchError
from workbench.models.ops import box_pyramid
from workbench.training import compiling
from workbench.training.config import TrainConfig
from workbench.training.players import build


@pytest.fixture(scope="module")
def players(inputs):
    return build(tiny_run.tiny_preset(), TrainConfig(vision_weight=0), inputs[1], "cpu", "fp32")


def test_compiled_passes_and_gradients_are_those_of_the_plain_ones(players):
    torch._dynamo.reset()
    G, D = players.G, players.D
    passes = compiling.compiled(G, D, "cpu", backend="aot_eager")
    text = G.encode_text(players.text_encoder(["a black dog", "a white dog"]))
    w = G.mapping(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), text.t_global).detach()
    found = []
    for synthesis, judge in ((G.synthesis, D), (passes["synthesis"], passes["D"])):
        fakes = synthesis(w, text)
        (logits,) = judge(box_pyramid(fakes[0], D.config.entries), torch.ones(2, 128))
        (loss := torch.stack(logits).sum()).backward(retain_graph=True)
        found.append(
            [
                loss.detach(),
                fakes[0].detach(),
                *(p.grad.clone() for p in D.parameters() if p.grad is not None),
            ]
        )
        D.zero_grad(set_to_none=True)
        G.zero_grad(set_to_none=True)
    assert len(found[0]) == len(found[1]) > 10
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*found, strict=True))


def test_the_players_use_them_and_nothing_else_changes(players):
    calls = []
    watched = {"D": lambda *args, **options: calls.append("D") or [[torch.zeros(1)]],
               "synthesis": lambda *args: calls.append("synthesis") or []}  # fmt: skip
    other = copy.copy(players)
    other.compiled = watched
    other.judge([], None)
    other.synthesis(None, None)
    assert calls == ["D", "synthesis"] and other.modules().keys() == players.modules().keys()
    assert players.compiled == {}


def test_without_a_compiler_it_is_refused_in_words(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(WorkbenchError, match=r"compile is on.*on cpu here: expected a C\+\+ compiler"):
        tiny_run.run_tiny(inputs, tmp_path / "run", compile=True, images=16)
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(WorkbenchError, match="expected a CPU or a CUDA GPU"):
        compiling.check_compiler("mps")
