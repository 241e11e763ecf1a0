"""Films through upscalers: their rate stays, what stands still does not flicker; refusals."""

import imageio.v2 as imageio
import numpy as np
import pytest
from bad_files import picture
from tiny_upsampler import tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.pipeline import Stopped, Upscaler
from workbench.pipeline.upscale_files import Job
from workbench.pipeline.upscale_film import upscale_film


@pytest.fixture
def up(text_encoder):
    return Upscaler(tiny_upsampler(2), text_encoder)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "f.mp4"
    frames = [np.asarray(picture(1, 48, 32)), np.asarray(picture(2, 48, 32))]
    with imageio.get_writer(str(path), format="FFMPEG", fps=12, macro_block_size=1) as writer:
        for k in range(8):
            writer.append_data(frames[k // 4])
    return path


def test_a_film_keeps_its_rate_and_does_not_flicker(film, tmp_path, job):
    told = []
    path, warnings = upscale_film(film, tmp_path / "out", job, lambda *at: told.append(at))
    assert path == tmp_path / "out" / "f.mp4" and told[-1] == (8, 8) and "sound" in warnings[0]
    reader = imageio.get_reader(str(path))
    assert reader.get_meta_data()["fps"] == 12 and tuple(reader.get_meta_data()["size"]) == (96, 64)
    frames = [frame.astype(int) for frame in reader]
    assert len(frames) == 8
    assert np.abs(frames[1] - frames[2]).mean() < 2 < np.abs(frames[3] - frames[4]).mean()


def test_films_that_cannot_be_are_refused(film, tmp_path, up, job):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(WorkbenchError, match=r"broken or no film"):
        upscale_film(broken, tmp_path / "out", job)
    with pytest.raises(WorkbenchError, match=r"There is no film"):
        upscale_film(tmp_path / "gone.mp4", tmp_path / "out", job)
    with pytest.raises(WorkbenchError, match=r"written as .mp4"):
        upscale_film(film, tmp_path / "b.gif", job)
    (tmp_path / "b.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"--overwrite"):
        upscale_film(film, tmp_path / "b.mp4", job)
    stopped = Job(upscalers=[up], tile=16, stop=lambda: True)
    with pytest.raises(Stopped):
        upscale_film(film, tmp_path / "c.mp4", stopped)
    assert not list(tmp_path.glob("c.mp4*"))
