"""How workers share machines, by counting; the board and its watcher without a cluster."""

import sys

import pytest

from workbench.cluster import Board, cores_each, everywhere, ray_cluster
from workbench.errors import WorkbenchError


@pytest.mark.parametrize(
    ("machines", "workers", "gpu", "each"),
    [
        ([(8, 0)], 1, False, 8),
        ([(8, 0)], 2, False, 4),
        ([(8, 0)], 3, False, 2),  # 3 · 2 = 6 fit, 3 · 3 = 9 do not
        ([(8, 0), (2, 0)], 2, False, 4),  # both on the larger one: 4 each, against 2 beside the smaller
        ([(8, 0), (6, 0)], 2, False, 6),
        ([(2, 0)], 3, False, 0),
        ([], 1, False, 0),
        ([(16, 2), (16, 2)], 4, True, 8),
        ([(16, 1), (16, 1)], 3, True, 0),  # a GPU is shared by none
        ([(64, 0), (4, 1)], 1, True, 4),
    ],
)
def test_workers_get_the_most_cores_that_fit(machines, workers, gpu, each):
    assert cores_each(machines, workers, gpu=gpu) == each


def test_a_board_remembers_the_last_note_of_a_name():
    board = Board()
    board.note("000", "running")
    board.note("000", "over")
    assert board.notes() == {"000": "over"} and not board.stopping()
    board.stop()
    assert board.stopping()


def test_paths_are_found_from_any_folder_and_names_stay(tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    monkeypatch.chdir(tmp_path)
    assert everywhere("clip") == str(tmp_path / "clip")
    assert everywhere("ViT-L-14") == "ViT-L-14"
    assert everywhere("https://host/{000..009}.tar") == "https://host/{000..009}.tar"


@pytest.mark.parametrize(("instead", "end"), [("draw here", ", or draw here."), (None, r"cluster\]`\.")])
def test_without_ray_the_line_that_brings_it_is_told(monkeypatch, instead, end):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with (
        pytest.raises(WorkbenchError, match=r"run `pip install workbench\[cluster\]`.*") as told,
        ray_cluster(None, 1, instead=instead),
    ):
        pass
    told.match(end)
