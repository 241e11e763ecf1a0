"""Perceptual distances: identities, tiles that cover, gradients, and LPIPS that is never fetched."""

import pytest
import torch
import torchvision

from workbench.errors import WorkbenchError
from workbench.evaluation import perceptual
from workbench.evaluation.perceptual import FeatureDistance, Lpips, perceptual_distance, tiles


@pytest.fixture(scope="module")
def distance() -> FeatureDistance:
    return FeatureDistance()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub cache, and a hub that may not fetch."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("it fetched a file"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def pictures(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_tiles_cover_each_picture_row_by_row():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    cut = tiles(x, 2)
    assert cut.shape == (2, 6, 3, 2, 2)
    assert torch.equal(cut[1, 0], x[1, :, :2, :2]) and torch.equal(cut[0, 4], x[0, :, 2:, 2:4])
    assert torch.equal(cut.flatten().sort().values, x.flatten())


def test_detail_is_the_distance_where_a_picture_is_one_tile(distance):
    a, b = pictures(3, 64, 64), pictures(3, 64, 64, 1)
    torch.testing.assert_close(distance.detail(a, b), distance(a, b))


def test_detail_is_zero_for_the_same_and_root_mean_square_over_tiles(distance):
    a, b = pictures(2, 64, 128), pictures(2, 64, 128, 1)
    assert distance.detail(a, a).abs().max() == 0
    each = torch.stack([distance(a[..., :64], b[..., :64]), distance(a[..., 64:], b[..., 64:])])
    torch.testing.assert_close(distance.detail(a, b), each.square().mean(0).sqrt())


def test_detail_does_not_care_in_which_order_the_tiles_come(distance):
    a, b = pictures(1, 128, 128), pictures(1, 128, 128, 1)
    turned = [x.roll((64, 64), (2, 3)) for x in (a, b)]
    torch.testing.assert_close(distance.detail(a, b), distance.detail(*turned))


def test_detail_sees_what_resizing_hides(distance):
    """A checkerboard of single pixels and plain grey are the same picture at a quarter of the size."""
    board = (torch.arange(256)[:, None] + torch.arange(256)) % 2 * 1.0 - 0.5
    a = board.expand(1, 3, 256, 256)
    grey = torch.zeros(1, 3, 256, 256)
    assert distance(a, grey).item() < 0.05 < 0.5 < distance.detail(a, grey).item()


@pytest.mark.parametrize("equal", [False, True])
def test_gradient_is_finite_even_between_equal_pictures(distance, equal):
    a = pictures(2, 64, 128).requires_grad_()
    distance.detail(a, a.detach() if equal else pictures(2, 64, 128, 1)).sum().backward()
    assert torch.isfinite(a.grad).all()
    assert (a.grad.abs().max() == 0) == equal


def test_a_step_against_the_gradient_lessens_it(distance):
    a, b = pictures(1, 128, 64).requires_grad_(), pictures(1, 128, 64, 1)
    before = distance.detail(a, b)
    before.sum().backward()
    after = distance.detail(a.detach() - 0.1 * a.grad / a.grad.norm(), b)
    assert after.item() < before.item()


def test_bfloat16_is_close_and_comes_back_as_float32(distance):
    a, b = pictures(1, 64, 64), pictures(1, 64, 64, 1)
    exact = distance.detail(a, b)
    pictures16 = distance.detail(a.bfloat16(), b.bfloat16())
    tower16 = FeatureDistance(dtype=torch.bfloat16).detail(a, b)
    for found in (pictures16, tower16):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, rtol=0.05, atol=0.01)


def test_pictures_that_tiles_do_not_cover_are_refused(distance):
    with pytest.raises(WorkbenchError, match=r"\[1, 3, 64, 100\].*tiles of 64 px"):
        distance.detail(pictures(1, 64, 100), pictures(1, 64, 100))
    with pytest.raises(WorkbenchError, match="tiles of 64 px"):
        distance.detail(pictures(1, 32, 32), pictures(1, 32, 32))


def test_without_weights_at_hand_auto_is_our_own_distance_by_its_name(hub):
    assert perceptual_distance().name == perceptual_distance("clip").name == "mini-clip feature distance"
    with pytest.raises(WorkbenchError, match=r"not at hand: expected .*alexnet.*\.pth"):
        perceptual_distance("lpips")
    with pytest.raises(WorkbenchError, match="'vgg16' is not known"):
        perceptual_distance("vgg16")


def test_lpips_with_its_weights_at_hand_is_torchmetrics_own(hub, monkeypatch):
    alexnet = torchvision.models.alexnet(weights=None)
    torch.save(alexnet.state_dict(), perceptual.lpips_backbone("alex"))
    ours = perceptual_distance("auto")
    assert ours.name == "LPIPS (alex)"
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as theirs

    monkeypatch.setattr(torchvision.models, "alexnet", lambda weights=None: alexnet)
    a, b = pictures(2, 64, 96), pictures(2, 64, 96, 1)
    torch.testing.assert_close(ours.detail(a, b), theirs(a, b, reduction="none"))
    assert ours.detail(a, a).abs().max() == 0
    a.requires_grad_()
    ours.detail(a, b).sum().backward()
    assert torch.isfinite(a.grad).all() and a.grad.abs().max() > 0


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_a_broken_file_of_weights_is_named(hub, content):
    perceptual.lpips_backbone("alex").write_bytes(content)
    with pytest.raises(WorkbenchError, match="is not a file of weights"):
        Lpips()


def test_other_weights_are_named(hub):
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, perceptual.lpips_backbone("alex"))
    with pytest.raises(WorkbenchError, match=r"lack 0\.bias"):
        Lpips("alex")
