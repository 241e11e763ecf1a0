"""The contact sheet, driven from code: what each page, menu entry and button shows."""

import base64
import io
import json

import pytest
from PIL import Image

from workbench.datasets.check.running import check_folder
from workbench.errors import WorkbenchError
from workbench.widgets.sheets import ALL, NAMED, ContactSheet, sheet_of
from workbench.widgets.sliders import VIEW

LEVELS = {"a": 0, "b": 50, "c": 100, "d": 150, "e": 200}
CENTRES = ((4, 4), (14, 4), (4, 14), (14, 14))  # of four squares of 8 px with 2 px between
WORDS = {name: f"level {level}" for name, level in LEVELS.items()}


def grey(name: str) -> Image.Image:
    if name not in LEVELS:
        raise WorkbenchError(f"{name} cannot be decoded.")
    return Image.new("RGB", (8, 4), (LEVELS[name],) * 3)


def made(**settings) -> ContactSheet:
    return ContactSheet(grey, WORDS, **({"columns": 2, "rows": 1, "side": 16} | settings))


def level(content: bytes) -> int:
    """The grey level in the middle of an encoded picture, to the nearest ten: JPEG is off by one."""
    picture = Image.open(io.BytesIO(content)).convert("L")
    return round(picture.getpixel((picture.width // 2, picture.height // 2)), -1)


def on_show(contacts: ContactSheet) -> list[tuple[str, int]]:
    """(label, level) of the places that can be seen."""
    pairs = zip(contacts.cells, contacts.buttons, contacts.thumbnails, strict=True)
    return [(b.description, level(t.value)) for cell, b, t in pairs if cell.layout.display != "none"]


def test_each_page_shows_its_own_pictures_and_hides_empty_places():
    contacts = made()
    pages = []
    for page in (1, 2, 3):
        contacts.page.value = page
        pages.append(on_show(contacts))
    assert pages == [[("1", 0), ("2", 50)], [("3", 100), ("4", 150)], [("5", 200)]]
    contacts.page.value = 9
    assert contacts.page.value == 3


def test_only_the_pictures_of_the_page_at_hand_are_read():
    read = []

    def noted(name: str) -> Image.Image:
        read.append(name)
        return grey(name)

    contacts = ContactSheet(noted, WORDS, columns=2, rows=1)
    assert set(read) == {"a", "b"}
    read.clear()
    contacts.page.value = 2
    assert read == ["c", "d"]


def test_a_pressed_button_shows_its_picture_large_with_its_words():
    contacts = made()
    assert level(contacts.large.value) == 0
    contacts.page.value = 2
    contacts.buttons[1].click()
    assert level(contacts.large.value) == 150
    assert contacts.caption.value == "<b>d</b><br>level 150"


def test_a_menu_entry_shows_its_part_from_the_first_page_on():
    contacts = made(kinds={"dark": ["a", "b", "c"], "none": []})
    assert set(contacts.kinds) == {ALL, "dark"}
    contacts.page.value = 3
    contacts.menu.value = "dark"
    assert (contacts.page.value, contacts.page.max) == (1, 2)
    assert on_show(contacts) == [("1", 0), ("2", 50)]
    contacts.menu.value = ALL
    assert contacts.page.max == 3


def test_a_picture_that_cannot_be_read_is_a_blank_with_the_reason():
    contacts = made(kinds={"broken": ["x"]})
    contacts.menu.value = "broken"
    contacts.buttons[0].click()
    assert on_show(contacts) == [("–", 210)]
    assert contacts.caption.value == "<b>x</b><br>x cannot be decoded."


def test_words_are_shown_as_text_whatever_they_hold():
    contacts = ContactSheet(lambda name: grey("a"), {"<i>": "a <script> & more"})
    assert contacts.caption.value == "<b>&lt;i&gt;</b><br>a &lt;script&gt; &amp; more"


def test_a_static_page_shows_the_first_page():
    contacts = made(rows=2)
    contacts.page.value = 2
    data, metadata = contacts._repr_mimebundle_()
    assert data["text/plain"] == "Contact sheet: 4 of 5, all pictures"
    assert set(data) == {"image/jpeg", "text/plain", VIEW}
    still = Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).convert("L")
    assert [still.getpixel(at) for at in CENTRES] == pytest.approx([0, 50, 100, 150], abs=20)
    assert metadata["image/jpeg"]["width"] == 2 * still.width


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(WorkbenchError, match="A contact sheet of 0 pictures in 8 columns"):
        ContactSheet(grey, {})
    with pytest.raises(WorkbenchError, match="5 pictures in 0 columns"):
        made(columns=0)
    with pytest.raises(WorkbenchError, match="no 'light' to begin with: expected all pictures, dark"):
        made(kinds={"dark": ["a"], "light": []}, start="light")


# --- of a folder ---


def write_set(folder) -> None:
    """Two pictures, the first with two captions; the second is cut short."""
    grey("b").save(folder / "one.png")
    grey("c").save(folder / "two.png")
    (folder / "two.png").write_bytes((folder / "two.png").read_bytes()[:40])
    rows = [("one.png", "first"), ("two.png", "other"), ("one.png", "second")]
    lines = (json.dumps({"file_name": name, "text": text}) + "\n" for name, text in rows)
    (folder / "metadata.jsonl").write_text("".join(lines))


def test_a_folder_is_shown_with_first_captions_in_the_order_of_its_metadata(tmp_path):
    write_set(tmp_path)
    contacts = sheet_of(tmp_path)
    assert contacts.words == {"one.png": "first", "two.png": "other"}
    assert list(contacts.words) == ["one.png", "two.png"]
    assert level(contacts.large.value) == 50


def test_findings_of_a_check_become_menu_entries(tmp_path):
    write_set(tmp_path)
    contacts = sheet_of(tmp_path, report=check_folder(tmp_path), columns=3, rows=2)
    assert contacts.kinds["broken pictures"] == ("two.png",)
    assert "two.png is broken or no picture" in contacts.caption.value  # what it opens with
    assert contacts.still.alt == "Contact sheet: 2 of 2, pictures that a finding names"
    assert contacts.kinds[NAMED] == ("two.png", "one.png")


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="There is no folder"):
        sheet_of(tmp_path / "absent")
