"""Publishing: the real client of the Hub against a stand-in on this machine, never the network."""

import hashlib
import json
import socket

import pytest
import shard_sets
from hub_stand_in import TOKEN, serve
from huggingface_hub import constants

from workbench.datasets import publishing
from workbench.datasets.publishing import card_text, publish
from workbench.datasets.rows import read_folder
from workbench.datasets.shards.packing import unpack
from workbench.errors import WorkbenchError


@pytest.fixture
def hub(monkeypatch):
    with serve(monkeypatch) as stand_in:
        yield stand_in


@pytest.fixture
def folder(tmp_path):
    """A data set with caches and strangers in it, which are nobody's business."""
    path = shard_sets.folder(tmp_path / "dogs", 5)
    (path / "README.md").unlink()
    (path / "cache-64.safetensors").write_bytes(b"x" * 100)
    (path / "images" / "thesis.png").write_bytes(b"private")
    (path / ".env").write_text("HF_TOKEN=hf_secret")
    return path


def upload(folder, repo="me/dogs", **options):
    said = []
    return publish(folder, repo, token=TOKEN, say=said.append, **options), said


def test_a_folder_arrives_whole_and_nothing_else(hub, folder):
    done, said = upload(folder, private=True)
    wanted = [*(f"images/{number:06d}.png" for number in range(5)), "metadata.jsonl", "README.md"]
    assert done.files == wanted and done.address == f"{hub.address}/datasets/me/dogs"
    held = hub.files["me/dogs"]
    assert sorted(held) == sorted(wanted) and hub.private == {"me/dogs"}
    assert all(content == (folder / name).read_bytes() for name, content in held.items())
    assert done.size == sum(map(len, held.values()))
    assert "README.md is new: look it through" in said[0] and said[-1] == "7 of 7 files"


def test_large_files_go_the_large_way(hub, folder):
    hub.large = (".png",)
    upload(folder)
    assert hub.files["me/dogs"]["images/000003.png"] == (folder / "images/000003.png").read_bytes()
    assert sum(line.startswith("PUT /lfs/") for line in hub.asked) == 5


def test_shards_arrive_and_unpack_to_the_same(hub, folder, tmp_path):
    done, _ = upload(folder, per_shard=2)
    held = hub.files["me/dogs"]
    assert sorted(held) == ["000000.tar", "000001.tar", "000002.tar", "README.md", "shards.json"]
    assert set(done.files) == set(held)
    assert "3 WebDataset shards of up to 2 samples" in held["README.md"].decode()
    place = tmp_path / "from the hub"
    place.mkdir()
    for name, content in held.items():
        (place / name).write_bytes(content)
    unpack(place, tmp_path / "back", progress=False)
    assert read_folder(tmp_path / "back") == read_folder(folder)


def test_many_files_go_in_several_commits_with_the_description_last(hub, folder, monkeypatch):
    monkeypatch.setattr(publishing, "_FILES_A_COMMIT", 3)
    _, said = upload(folder)
    assert said[1:] == ["3 of 7 files", "6 of 7 files", "7 of 7 files"] and len(hub.commits) == 3
    assert len(hub.files["me/dogs"]) == 7


def test_the_same_again_sends_nothing(hub, folder):
    upload(folder)
    commits = list(hub.commits)
    _, said = upload(folder)
    assert hub.commits == commits and said == ["7 of 7 files"]
    (folder / "images/000001.png").write_bytes(shard_sets.picture(77))
    upload(folder)
    assert len(hub.commits) == len(commits) + 1
    assert hub.files["me/dogs"]["images/000001.png"] == shard_sets.picture(77)


def test_a_dry_run_lists_and_touches_nothing(hub, folder):
    before = sorted(folder.parent.rglob("*"))
    listed = publish(folder, "me/dogs", dry_run=True)  # without a token too
    packed = publish(folder, "me/dogs", dry_run=True, per_shard=2)
    assert listed.address is None and not hub.asked and sorted(folder.parent.rglob("*")) == before
    assert set(listed.files) == set(upload(folder)[0].files)
    assert set(packed.files) == set(upload(folder, "me/shards", per_shard=2)[0].files)


# ---------------------------------------------------------------- the card


def test_a_new_card_says_what_is_known(folder):
    text, news = card_text(folder, read_folder(folder))
    assert text.startswith("---\nlicense:") and "# dogs" in text and "new" in news
    assert "- **Size**: 5 pictures, 1 MB, 12 × 12 px" in text
    for part in ("**Source**", "**Licence**", "**Limits**"):
        assert part in text
    assert "| `text` | 100% | picture 0, größer |" in text and "| `coat` | 100% | red |" in text


def test_a_card_written_by_hand_keeps_every_line(folder):
    mine = "---\nlicense: cc-by-4.0\n---\n# My dogs\n\nTaken by me.\n"
    (folder / "README.md").write_text(mine)
    rows = read_folder(folder)
    text, news = card_text(folder, rows)
    assert text.startswith(mine) and "facts were added at its end; your text stays" in news
    (folder / "README.md").write_text(text + "\nWith thanks to Rex.\n")
    same, news = card_text(folder, rows)
    assert same == text + "\nWith thanks to Rex.\n" and news == ""
    shorter, news = card_text(folder, rows[:3])
    assert "3 pictures" in shorter and "5 pictures" not in shorter and "up to date" in news
    assert shorter.startswith(mine) and shorter.endswith("\nWith thanks to Rex.\n")


def test_columns_with_gaps_and_bars(tmp_path):
    path = shard_sets.folder(tmp_path / "set", 2)
    rows = [json.loads(line) for line in (path / "metadata.jsonl").read_text().splitlines()]
    rows[0] |= {"note": "a|b\nc", "coat": None}
    (path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    text, _ = card_text(path, read_folder(path))
    assert "| `note` | 50% | a\\|b c |" in text and "| `coat` | 50% | red |" in text


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["", "dogs", "a/b/c", "me/", "/x", "me/ x", "../x/y"])
def test_names_that_are_none(folder, name):
    with pytest.raises(WorkbenchError, match="no Hub name: expected owner/name"):
        publish(folder, name, token=TOKEN)


def test_refusals_are_one_sentence_each(hub, folder, monkeypatch):
    with pytest.raises(WorkbenchError, match=r"Nobody is logged in .*Nothing was uploaded"):
        publish(folder, "me/dogs")
    assert not (folder / "README.md").exists() and not hub.asked
    for repo, token, status in (("you/dogs", TOKEN, 403), ("me/dogs", "hf_wrong", 401)):
        with pytest.raises(WorkbenchError, match=rf"refused {repo} \(status {status}\): check the name"):
            publish(folder, repo, token=token, say=lambda text: None)
    with pytest.raises(WorkbenchError, match=r"no valid Hub name|refused me/dogs\.git"):
        publish(folder, "me/dogs.git", token=TOKEN, say=lambda text: None)
    (folder / "README.md").write_text("---\nlicense: none\n---\n")
    with pytest.raises(WorkbenchError, match=r"does not take the files .*not a licence.*mend README\.md"):
        publish(folder, "me/dogs", token=TOKEN, say=lambda text: None)
    assert not hub.files["me/dogs"]


def test_the_token_of_the_machine_is_used(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert publish(folder, "me/dogs", say=lambda text: None).address


def test_a_network_that_is_down_is_one_sentence(hub, folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with pytest.raises(WorkbenchError, match="cannot be reached, 0 of 7 files of me/dogs are there"):
        upload(folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WorkbenchError, match="cannot be reached"):
        upload(folder)


def test_a_broken_set_is_not_published(hub, folder):
    (folder / "images/000002.png").write_bytes(b"")
    with pytest.raises(WorkbenchError, match=r"000002\.png"):
        upload(folder)
    assert not hub.asked


def test_too_many_files_ask_for_shards(hub, folder, monkeypatch):
    monkeypatch.setattr(publishing, "_MOST_FILES", 4)
    with pytest.raises(WorkbenchError, match="add --shards"):
        upload(folder)
    assert len(upload(folder, per_shard=5)[0].files) == 3


def test_nothing_secret_leaves(hub, folder):
    upload(folder)
    sent = b"".join(hub.files["me/dogs"].values())
    assert b"hf_secret" not in sent and b"private" not in sent
    assert hashlib.sha256(b"x" * 100).hexdigest() not in "".join(hub.asked)
