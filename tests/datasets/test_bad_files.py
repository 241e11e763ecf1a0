"""No bad file crashes the check or the import, and none gets lost: each is named, with what to do."""

import html
import json
import os
from pathlib import Path

import pytest
from bad_files import metadata_cases, picture_cases, write_metadata, write_pictures

from workbench.datasets.check.findings import Report
from workbench.datasets.check.report import write_report
from workbench.datasets.check.running import check_folder
from workbench.datasets.own.importing import Imported, import_folder
from workbench.datasets.own.taking import TakeConfig
from workbench.datasets.rows import read_folder
from workbench.datasets.tree import shown, walk
from workbench.models.tokens import BpeTokenizer

PICTURES = {case.name: case for case in picture_cases()}
METADATA = {case.name: case for case in metadata_cases()}
CONFIG = TakeConfig(resolution=16)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("bad") / "tree")


@pytest.fixture(scope="module")
def words() -> BpeTokenizer:
    return BpeTokenizer()


@pytest.fixture(scope="module")
def report(tree) -> Report:
    return check_folder(tree)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> str:
    return write_report(report, tmp_path_factory.mktemp("report")).read_text()


@pytest.fixture(scope="module")
def imported(tree, tmp_path_factory) -> Imported:
    out = tmp_path_factory.mktemp("import") / "set"
    return import_folder(tree, out, config=CONFIG, captions="metadata", progress=False)


def test_there_are_enough_of_them():
    assert len(PICTURES) + len(METADATA) >= 60


@pytest.mark.parametrize("name", PICTURES, ids=ascii)
def test_the_check_names_each_bad_file(report, page, name):
    case = PICTURES[name]
    kinds = {each.kind for each in report.findings if any(words.startswith(name) for words in each.names)}
    if case.finding:
        assert case.finding in kinds
        found = next(each for each in report.findings if each.kind == case.finding)
        assert found.suggestion and html.escape(found.suggestion) in page
    elif case.named:
        assert name in {look.name for look in report.whole}
        assert not kinds - {"small", "exact-copies", "strays"}
    if case.finding:
        assert html.escape(shown(name)) in page


@pytest.mark.parametrize("name", PICTURES, ids=ascii)
def test_the_import_takes_each_file_or_says_why_not(imported, name):
    case = PICTURES[name]
    rows = [json.loads(line) for line in (imported.folder / "metadata.jsonl").read_text().splitlines()]
    taken = [row for row in rows if row["source"] == name]
    skipped = [each for each in imported.skipped if each.source == name]
    assert len(taken) == case.taken
    if not case.taken:
        assert skipped and all(each.reason and each.do for each in skipped)
        assert case.why in skipped[0].reason


def test_an_import_accounts_for_every_file(imported, tree):
    listed = [json.loads(line) for line in (imported.folder / "skipped.jsonl").read_text().splitlines()]
    sources = {row["source"] for row in listed} | {
        json.loads(line)["source"] for line in (imported.folder / "metadata.jsonl").read_text().splitlines()
    }
    assert {each.name for each in walk(tree)} - sources == {"metadata.jsonl"}
    assert len(read_folder(imported.folder)) == imported.pictures


@pytest.mark.parametrize("name", METADATA)
def test_the_check_names_each_fault_of_the_metadata(tmp_path, words, name):
    case = METADATA[name]
    report = check_folder(write_metadata(case, tmp_path / "set"), tokenizer=words)
    found = [each for each in report.findings if each.kind == case.finding]
    assert len(found) == 1 and found[0].suggestion and found[0].what in report.text()
    assert not case.where or any(case.where in words for words in found[0].names)


@pytest.mark.parametrize("name", ["half a character", "a zero byte in a name", "markup", "empty"])
def test_a_report_is_written_of_the_strangest(tmp_path, name):
    report = check_folder(write_metadata(METADATA[name], tmp_path / "set"))
    page = write_report(report, tmp_path / "report").read_text()
    assert "<b>" not in page
    assert json.loads((tmp_path / "report/findings.json").read_text())["verdict"] == report.verdict


@pytest.mark.parametrize("name", METADATA)
def test_an_import_from_bad_metadata_loses_no_line_silently(tmp_path, name):
    case = METADATA[name]
    folder = write_metadata(case, tmp_path / "set")
    done = import_folder(folder, tmp_path / "out", config=CONFIG, captions="metadata", progress=False)
    told = [each for each in done.skipped if each.source.startswith((case.file, "a.png"))]
    harmless = {"captions-long", "captions-foreign", "captions-untidy", "captions-equal", "few"}
    assert case.finding in harmless or (told and all(each.reason and each.do for each in told))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything: run as another user to test it")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    source = write_metadata(METADATA["a gone picture"], tmp_path / "set")
    closed = source / "closed"
    closed.mkdir()
    closed.chmod(0)
    done = import_folder(source, tmp_path / "out", config=CONFIG, captions="metadata", progress=False)
    closed.chmod(0o700)
    assert any(each.source == "closed" and "cannot be read" in each.reason for each in done.skipped)
