"""README says what the files say: its figures are the measured ones, its links lead somewhere."""

import re
from pathlib import Path

from workbench.evaluation import figures

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_of_figures_is_the_measured_one():
    begin, end = "<!-- figures: begin -->\n", "<!-- figures: end -->"
    table = README[README.index(begin) + len(begin) : README.index(end)].strip()
    assert table == figures.markdown(), "README's figures are stale: run `make readme`"


def test_links_to_files_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_no_number_is_typed_into_the_prose():
    prose = re.sub(
        r"<!-- figures: begin -->.*<!-- figures: end -->|```.*?```|\]\([^)]*\)|`[^`]*`",
        "",
        README,
        flags=re.DOTALL,
    )
    measured = re.findall(r"\d+(?:\.\d+)? ?(?:%|ms|s\b|images/s|MiB|times)", prose)
    assert measured == []
