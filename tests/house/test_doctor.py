"""`workbench doctor`: every missing thing is named with the line that mends it."""

import json
import socket

import pytest
import torch
from safetensors.torch import save_file

from workbench import doctor
from workbench.errors import WorkbenchError


@pytest.fixture
def models(tmp_path):
    """A folder of one whole model."""
    folder = tmp_path / "models" / "tiny"
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"kind": "gigagan-pipeline"}))
    save_file({"w": torch.ones(2)}, folder / "generator.safetensors")
    save_file({"w": torch.ones(3)}, folder / "text_encoder" / "model.safetensors")
    return folder.parent


def by_topic(findings):
    return {finding.topic: finding for finding in findings}


def test_a_whole_machine_is_reported_and_exits_with_zero(models):
    findings = doctor.examine(port=free_port(), models=models)
    text, status = doctor.report(findings)
    assert status == 0
    assert text.endswith("Everything needed is here.")
    found = by_topic(findings)
    assert torch.__version__.partition("+")[0] in found["libraries"].text
    assert found["precision"].text.startswith(("bf16: ", "fp32: "))
    for topic in ("system", "processor", "memory", "device", "disk", "port", "chromium"):
        assert found[topic].text


def test_models_are_listed_with_the_hash_that_sha256sum_prints(models):
    import hashlib

    text = by_topic(doctor.examine(port=free_port(), models=models))["model tiny"].text
    for path in models.rglob("*.safetensors"):
        assert f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}" in text
    assert text.startswith("gigagan-pipeline: generator.safetensors 0.0 MiB")


def test_half_a_copy_of_a_model_is_found_with_the_line_that_brings_it_back(models):
    weights = models / "tiny" / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    text, status = doctor.report(doctor.examine(port=free_port(), models=models))
    assert status == 1
    assert "generator.safetensors cannot be read" in text
    assert "git checkout -- " in text
    assert text.endswith("Missing: model tiny.")


@pytest.mark.parametrize("damage", ["{", "[1]", "no weights", "no models"])
def test_other_damage_to_models_is_missing_too(models, damage):
    if damage == "no weights":
        for path in models.rglob("*.safetensors"):
            path.unlink()
    elif damage == "no models":
        (models / "tiny" / "config.json").unlink()
    else:
        (models / "tiny" / "config.json").write_text(damage)
    findings = doctor.examine(port=free_port(), models=models)
    assert [f.state for f in findings if f.topic.startswith("model")] == ["missing"]
    assert doctor.report(findings)[1] == 1


def test_a_taken_port_is_a_note_with_another_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = by_topic(doctor.examine(port=port))["port"]
    assert finding.state == "note"
    assert f"127.0.0.1:{port} cannot be opened" in finding.text
    assert "make app PORT=" in finding.fix


def test_a_machine_without_chromium_gets_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_CHROMIUM", raising=False)
    assert doctor.find_chromium() is None
    finding = by_topic(doctor.examine(port=free_port()))["chromium"]
    assert (finding.state, finding.fix) == ("note", "sudo apt-get install chromium")
    browser = tmp_path / "my-browser"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("WORKBENCH_CHROMIUM", str(browser))
    assert doctor.find_chromium() == str(browser)


def test_an_impossible_port_is_refused():
    with pytest.raises(WorkbenchError, match="The port is 0: expected 1 to 65535"):
        doctor.examine(port=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
