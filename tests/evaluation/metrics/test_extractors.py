"""Feature networks by name: against torch-fidelity's own numbers, and never a download."""

import numpy as np
import pytest
import torch
from noise_pictures import noise, noise_folder
from safetensors.torch import save_file
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from workbench.errors import WorkbenchError
from workbench.evaluation.distances import frechet_from_features
from workbench.evaluation.features import Judge, JudgeConfig
from workbench.evaluation.metrics.extractors import from_judge, load_extractor
from workbench.evaluation.metrics.inception import PUBLISHED, Inception
from workbench.evaluation.metrics.kernel import kernel_distance
from workbench.evaluation.metrics.measuring import distances
from workbench.evaluation.metrics.resizing import RESIZERS, described, resize
from workbench.evaluation.metrics.sources import open_pictures
from workbench.evaluation.metrics.statistics import statistics_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An Inception with random weights as torch-fidelity's file would hold it, its classes included."""
    torch.manual_seed(5)
    network = Inception()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    state = {**network.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def test_inception_gives_torch_fidelitys_features(weights):
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights))
    pictures = noise(3, 40)
    ours = load_extractor("inception", weights=weights)
    assert torch.allclose(ours(pictures), theirs(pictures)[0], rtol=1e-5, atol=1e-5)
    assert not ours.fid and "FID" not in ours.distance_name and "other weights" in ours.name


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    return noise_folder(place / "a", 24, 32), noise_folder(place / "b", 20, 32, seed=1, mean=150)


def test_kernel_and_frechet_distance_equal_torch_fidelitys_on_the_same_features(weights, folders):
    extractor = load_extractor("inception", weights=weights)
    a, b = (statistics_of(open_pictures(x), extractor, cache=None).rows[:, :150] for x in folders)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    assert frechet_from_features(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    theirs = kid_features_to_metric(a, b, kid_subsets=7, kid_subset_size=9, verbose=False)
    mine = kernel_distance(a, b, subsets=7, size=9)
    assert mine.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert mine.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


@pytest.mark.long  # their root of a general matrix of 2048 x 2048 takes half a minute
def test_distances_equal_torch_fidelitys_on_the_same_folders(weights, folders):
    a, b = folders
    theirs = calculate_metrics(
        input1=str(a), input2=str(b), fid=True, kid=True, kid_subset_size=10, kid_subsets=5, verbose=False,
        cuda=False, batch_size=8, feature_extractor_weights_path=str(weights), cache=False,
        save_cpu_ram=True,
    )  # fmt: skip
    extractor = load_extractor("inception", weights=weights)
    mine, reference = (statistics_of(open_pictures(x), extractor, cache=None) for x in (a, b))
    found = distances(mine, reference, extractor, subsets=5, subset_size=10)
    kernel = found[extractor.kernel_name]
    assert found[extractor.distance_name].value == pytest.approx(
        theirs["frechet_inception_distance"], rel=1e-3
    )
    assert kernel.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert kernel.spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_only_the_published_file_is_called_fid(weights, monkeypatch):
    import hashlib

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr("workbench.evaluation.metrics.inception.PUBLISHED", digest[:8])
    published = load_extractor("inception", weights=weights)
    assert published.fid and (published.distance_name, published.kernel_name) == ("FID", "KID")
    assert PUBLISHED == "6726825d"


def test_weights_that_are_not_there_are_a_message_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WorkbenchError, match=r"FID needs Inception's weights.*6726825d\.pth.*not called FID"):
        load_extractor("inception")
    with pytest.raises(WorkbenchError, match=r"not in the Hugging Face cache.*hf download timm/resnet18"):
        load_extractor("timm:resnet18")
    with pytest.raises(WorkbenchError, match=r"ViT-B-32 .openai. are not in the Hugging Face cache"):
        load_extractor("clip:ViT-B-32")


def test_weights_in_torchs_cache_are_found(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    cached.write_bytes(weights.read_bytes())
    assert load_extractor("inception").dims == 2048


def test_files_of_something_else_are_refused(weights, tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    (tmp_path / "y.pth").write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="is no Inception of FID: Conv2d_1a_3x3"):
        load_extractor("inception", weights=tmp_path / "x.safetensors")
    with pytest.raises(WorkbenchError, match="is not a file of weights"):
        load_extractor("inception", weights=tmp_path / "y.pth")
    for name in ("vgg", "timm:", "inception:b", ""):
        with pytest.raises(WorkbenchError, match="are not known: expected judge"):
            load_extractor(name)


def test_the_judge_behind_its_own_resizer_is_the_judge():
    judge = Judge(JudgeConfig(resolution=16, channels=(4, 8, 8), place_channels=2)).eval()
    extractor = from_judge(judge)
    for side in (16, 40):
        pictures = noise(5, side)
        expected = judge.features(pictures.float() / 127.5 - 1)
        assert torch.allclose(extractor(pictures).double(), expected, atol=1e-5)
    assert extractor.dims == judge.feature_dim and extractor.version == judge.version
    assert "judge" in extractor.distance_name and "FID" not in extractor.distance_name


def test_the_shipped_clip_embeds_pictures():
    extractor = load_extractor("clip")
    found = extractor(noise(2, 64))
    assert found.shape == (2, extractor.dims)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    assert load_extractor("clip").version == extractor.version


def test_a_timm_model_from_a_file(tmp_path):
    import timm

    model = timm.create_model("resnet10t", pretrained=False)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    extractor = load_extractor("timm:resnet10t", weights=tmp_path / "model.safetensors", resizer="clean")
    assert (extractor.dims, extractor.resizer) == (512, "clean")
    assert extractor(noise(2, 32)).shape == (2, 512)
    other = timm.create_model("resnet18", pretrained=False)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WorkbenchError, match="does not fit resnet10t"):
        load_extractor("timm:resnet10t", weights=tmp_path / "other.safetensors")
    with pytest.raises(WorkbenchError, match="timm knows no model 'nosuch'"):
        load_extractor("timm:nosuch")


# --- resizers ---


@pytest.mark.parametrize("name", RESIZERS)
def test_a_resizer_keeps_a_constant_and_leaves_its_own_size_alone(name):
    grey = torch.full((2, 3, 20, 20), 77, dtype=torch.uint8)
    assert torch.allclose(resize(grey, 9, name), torch.full((2, 3, 9, 9), 77.0), atol=1e-3)
    pictures = noise(2, 9)
    assert torch.equal(resize(pictures, 9, name), pictures.float())


def test_antialiased_ones_average_what_others_skip():
    """A checkerboard of single pixels is grey from afar; the nearest pixel sees one colour of it alone."""
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 255).to(torch.uint8).expand(1, 3, 32, 32)
    spread = {name: resize(board, 8, name)[..., 2:-2, 2:-2].std().item() for name in RESIZERS}
    means = {name: resize(board, 8, name)[..., 2:-2, 2:-2].mean().item() for name in RESIZERS}
    for name in ("antialias", "bicubic", "clean", "lanczos"):
        assert spread[name] < 2 and abs(means[name] - 127.5) < 2
    assert means["nearest"] == 0


def test_clean_is_pillows_bicubic_without_rounding():
    from PIL import Image

    picture = noise(1, 30)
    plane = Image.fromarray(picture[0, 1].numpy().astype(np.float32)).resize(
        (12, 12), Image.Resampling.BICUBIC
    )
    assert np.allclose(resize(picture, 12, "clean")[0, 1].numpy(), np.clip(np.asarray(plane), 0, 255))
    assert (
        described(30, 12, "clean") == "clean to 12 px" and described(12, 12, "clean") == "not resized, 12 px"
    )
    with pytest.raises(WorkbenchError, match="The resizer 'spline' is not known"):
        resize(picture, 12, "spline")
