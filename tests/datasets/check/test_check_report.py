"""The report page: complete in itself, true to the findings, harmless whatever the captions hold."""

import html.parser
import json
import re

import numpy as np
import pytest
from bad_files import picture, write_pictures
from PIL import Image

from workbench.cli import main
from workbench.datasets.check.plots import _whole_edges, bars, contact_sheet, histogram
from workbench.datasets.check.report import write_report
from workbench.datasets.check.running import check_folder


class Tags(html.parser.HTMLParser):
    """Collects tags, and fails on one closed before it is opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = write_pictures(tmp_path_factory.mktemp("set") / "messy")
    text = '<script>alert("x")</script> $a$ & \\u202e\\n'
    with (folder / "metadata.jsonl").open("a") as file:
        for k in range(30):
            name = f"more{k}.png"
            picture(100 + k).save(folder / name)
            kind = "<i>$odd$\n" if k % 2 else "\N{DOG FACE}"
            file.write(json.dumps({"file_name": name, "text": text + str(k), "kind": kind}) + "\n")
    report = check_folder(folder)
    return report, write_report(report, tmp_path_factory.mktemp("report"))


def test_the_page_asks_nothing_of_any_address(made):
    tags = Tags(made[1].read_text(encoding="utf-8"))
    assert tags.open == []
    assert not {"script", "link", "iframe", "object", "i", "b"} & {tag for tag, _ in tags.found}
    for _, attributes in tags.found:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert not attributes.get(name) or attributes[name].startswith(("data:image/webp;base64,", "#"))
    assert "url(http" not in (page := made[1].read_text(encoding="utf-8")) and "@import" not in page


def test_every_picture_and_plot_has_words(made):
    tags = Tags(made[1].read_text(encoding="utf-8")).found
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    plots = [attributes for _, attributes in tags if attributes.get("role") == "img"]
    assert len(plots) >= 7 and all(each["aria-label"] for each in plots)


def test_the_page_says_what_the_report_says(made):
    report, page = made[0], html.unescape(made[1].read_text(encoding="utf-8"))
    assert report.verdict in page
    assert all(finding.what in page and finding.suggestion in page for finding in report.findings)
    facts = json.loads((made[1].parent / "findings.json").read_text())
    assert facts["verdict"] == report.verdict and facts["pictures"] == report.count
    assert [each["names"] for each in facts["findings"]] == [list(each.names) for each in report.findings]
    assert facts["broken"]["empty.png"] == "it is empty"
    with Image.open(made[1].parent / "contact-sheet.png") as sheet:
        assert sheet.size == (996, 596)


def test_a_histogram_counts_every_value():
    values = np.random.default_rng(0).lognormal(3, 1, 500)
    for svg in (
        histogram(values, words="px", log=True),
        histogram([5] * 7, words="px"),
        histogram([5] * 7, words="words", whole=True),
        bars({"a$b": 3}, words="n"),
    ):
        assert svg.startswith("<svg") and "#010203" not in svg and "currentColor" in svg
        assert len(re.findall("<svg", svg)) == 1


@pytest.mark.parametrize("values", [[1, 2], [5], [1, 40, 40], list(range(0, 700, 3))])
def test_whole_numbers_stand_in_the_middle_of_their_bins(values):
    edges = _whole_edges(np.array(values))
    assert (edges % 1 == 0.5).all() and len(edges) <= 33 and len(set(np.diff(edges))) == 1
    assert edges[0] < min(values) and max(values) < edges[-1] < max(values) + np.diff(edges)[0]
    if max(values) - min(values) < 32:
        assert np.diff(edges)[0] == 1
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_a_contact_sheet_holds_every_picture_whole():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    sheet = np.asarray(contact_sheet([Image.new("RGB", (8, 4), c) for c in colours], side=32, columns=2))
    assert sheet.shape == (68, 68, 3)
    for k, colour in enumerate(colours):
        top, left = k // 2 * 36, k % 2 * 36
        assert (sheet[top + 8 : top + 24, left : left + 32] == colour).all()
        assert (sheet[top : top + 8, left : left + 32] == 255).all()


def test_the_command_prints_mends_and_reports(tmp_path, capsys):
    folder = write_pictures(tmp_path / "messy")
    line = ["dataset", "check", str(folder), "--preset", "shepherd-64", "--clip", "ViT-L-14"]
    assert (
        main([*line, "--report", str(tmp_path / "report"), "--fix", str(tmp_path / "fixed"), "--json"]) == 1
    )
    told = capsys.readouterr()
    facts = json.loads(told.out)
    assert not facts["ok"] and "the original is untouched" in told.err
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"report.html", "findings.json"}
    assert main(["dataset", "check", str(tmp_path / "fixed")]) == 0
    told = capsys.readouterr()
    assert "words that the text encoder does not know" in told.out  # mini-CLIP's, which knows no "number"
    assert told.out.strip().splitlines()[-1].startswith("Fit for training with care")
    assert main([*line, "--fix", str(tmp_path / "fixed")]) == 2
    told = capsys.readouterr()
    assert not told.out and "already there" in told.err  # said before every picture is looked at
    assert main(["dataset", "check", str(folder), "--preset", "huge"]) == 2
    assert main(["dataset", "check", str(folder), "--clip", "nowhere"]) == 2
    assert main(["dataset", "check", str(tmp_path / "nowhere")]) == 2
