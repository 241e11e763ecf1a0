"""Walking a tree: every file once, links followed but never in circles, names printable."""

import inspect
import sys

import pytest

from workbench.datasets.tree import shown, walk


def names(folder) -> dict[str, str]:
    return {entry.name: entry.trouble for entry in walk(folder)}


def test_every_file_comes_once_in_order_with_its_size(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "c/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(walk(tmp_path))
    assert [entry.name for entry in found] == ["b.txt", "a/z.txt", "a/b/c.txt", "c/d.txt"]
    assert all(entry.size == len(entry.name) and entry.changed > 0 and not entry.trouble for entry in found)


def test_links_are_followed_out_of_the_tree_and_never_in_circles(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "real/a.txt").touch()
    (outside / "b.txt").touch()
    (root / "again").symlink_to(root / "real")
    (root / "up").symlink_to(tmp_path)
    (root / "real/self").symlink_to(root)
    (root / "out").symlink_to(outside)
    (outside / "back").symlink_to(outside)
    (outside / "home").symlink_to(root)
    (root / "file.txt").symlink_to(outside / "b.txt")
    found = names(root)
    assert {name for name, trouble in found.items() if not trouble} == {"real/a.txt", "out/b.txt", "file.txt"}
    assert "read already" in found["again"] and "read already" in found["out/back"]
    assert all("above" in found[name] for name in ("up", "real/self", "out/home"))


def test_links_among_siblings_end(tmp_path):
    # Followed blindly, twelve folders that link to each other have more ways than there are atoms.
    outside = tmp_path / "outside"
    for k in range(12):
        (outside / str(k)).mkdir(parents=True)
        (outside / str(k) / "file.txt").touch()
    for k in range(12):
        for other in range(12):
            (outside / str(k) / f"to{other}").symlink_to(outside / str(other))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/in").symlink_to(outside / "0")
    found = names(tmp_path / "root")
    assert sum(1 for name in found if name.endswith("file.txt")) == 12


def test_a_deep_tree_is_no_matter(tmp_path):
    deep = "/".join("d" * 60)
    (tmp_path / deep).mkdir(parents=True)
    (tmp_path / deep / "leaf.txt").touch()
    # Far fewer calls than folders: the walk must not go down by calling itself.
    depth = len(inspect.stack())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 45)
    try:
        found = [entry.name for entry in walk(tmp_path)]
    finally:
        sys.setrecursionlimit(limit)
    assert found == [f"{deep}/leaf.txt"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.png", "a b.png"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\udcff.png", r"\udcff.png"),
        ("ä🐕", "ä🐕"),
    ],
)
def test_names_are_shown_on_one_line(name, expected):
    assert shown(name) == expected
    shown(name).encode("utf-8")
