"""The report of an evaluation: what is kept, what is written, what people read."""

import json
import os
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from itp import MissingExtraError, ReportError
from itp.evaluation.metrics import METRICS
from itp.evaluation.report import Report
from itp.evaluation.summary import summary
from itp.evaluation.tables import losses_first
from itp.evaluation.text import figure, interval, label, number, percent, seeds_text, signed_percent
from itp.policies.names import NAMES
from itp.sim.scenario import FAMILIES
from reports import made_up

POLICIES = {"pull": 1.0, "single_best": 1.4, "learnt": 0.6, "oracle": 0.2}
VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(scope="module")
def report():
    return made_up(POLICIES)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report.to_html(path) == path
    return path.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that tags nest; collects ids, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.take(attrs)

    def handle_startendtag(self, _tag, attrs):
        self.take(attrs)

    def take(self, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        self.references += [value for name, value in attrs if name in ("href", "src", "xlink:href", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


# --- JSON ---


def test_json_round_trip(report, tmp_path):
    path = tmp_path / "report.json"
    text = report.to_json(path)
    assert path.read_text() == text
    for again in (Report.from_json(path), Report.from_json(str(path)), Report.from_json(text)):
        assert again.configuration == report.configuration
        for name in METRICS:
            np.testing.assert_array_equal(again.figures[name], report.figures[name])
        np.testing.assert_array_equal(again.completion_s, report.completion_s)
        np.testing.assert_array_equal(again.timelines[3].intervals, report.timelines[3].intervals)
        assert again.to_json() == text
        assert again.to_markdown() == report.to_markdown()


def test_json_holds_the_comparison(report):
    analysis = json.loads(report.to_json())["analysis"]
    first = analysis["groups"][0]
    assert (first["scenario"], first["service_order"], first["best_classical"]) == ("lossy", "fifo", "pull")
    assert [row["policy"] for row in first["rows"]] == ["oracle", "learnt", "pull", "single_best"]
    closed = first["rows"][1]["gap_closed"]
    assert closed["low"] < closed["value"] < closed["high"]
    assert first["rows"][0]["figures"]["deadlines_met"] == {"value": None, "low": None, "high": None}


def changed(report, change):
    content = json.loads(report.to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(format="other"), "expected the JSON of an evaluation"),
        (lambda c: c.update(version=99), "version 99"),
        (lambda c: c.pop("figures"), "'figures' is missing"),
        (lambda c: c["figures"].pop("reward"), "'reward' is missing"),
        (lambda c: c["figures"]["reward"].pop(), "reward: expected"),
        (lambda c: c["figures"].update(reward="much"), "reward: expected"),
        (lambda c: c["figures"]["log_slowdown"][0][0][0].__setitem__(0, 1e308), "log_slowdown: expected"),
        (lambda c: c.update(figures=[]), "report: "),
        (lambda c: c["completion_s"][0][0][0].pop(), "completion_s: expected"),
        (lambda c: c["configuration"].pop("seeds"), "'seeds' is missing"),
        (lambda c: c["configuration"].update(policies="all"), "policies: expected a list of str"),
        (
            lambda c: c["configuration"]["policies"].__setitem__(0, "oracle"),
            "policies: an entry appears twice",
        ),
        (lambda c: c["configuration"].update(about=["one"]), "as many of about and tasks"),
        (lambda c: c["configuration"].update(seeds=[True] * 12), "seeds: expected a list of int"),
        (lambda c: c["configuration"].update(reference="nobody"), "'nobody' is not among the policies"),
        (lambda c: c["configuration"].update(load="high"), "load: expected a number"),
        (lambda c: c["configuration"].update(replicas=["nobody"]), "replicas: 'nobody' is not among"),
        (
            lambda c: c["configuration"].update(replicas=["pull", "pull"]),
            "replicas: an entry appears twice",
        ),
        (lambda c: c["configuration"].update(rate_scale=0), "rate_scale: expected a number above 0"),
        (lambda c: c["configuration"].update(rate_scale=None), "rate_scale: expected a number above 0"),
        (lambda c: c["configuration"].update(command=7), "command: expected a text"),
        (lambda c: c["timelines"][0].update(policy="nobody"), "'nobody' is not in the configuration"),
        (lambda c: c["timelines"][0].update(intervals=[[1, 2]]), "report: "),
        (lambda c: c["timelines"][0].update(intervals=[[-1, 0, 0.0, 1.0, 1.0]]), "streams from 0"),
    ],
)
def test_wrong_json_is_refused(report, change, text):
    with pytest.raises(ReportError, match=re.escape(text)):
        Report.from_json(changed(report, change))


@pytest.mark.parametrize("source", ["{", "[]", '{"format": 1}', "no such file", "a\0b"])
def test_what_is_no_report_is_refused(source):
    with pytest.raises(ReportError):
        Report.from_json(source)


# --- files ---


def test_file_is_whole_or_untouched(report, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("before")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        report.to_json(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.json"]


def test_new_file_has_usual_permissions(report, tmp_path):
    before = os.umask(0o027)
    try:
        report.to_markdown(tmp_path / "report.md")
    finally:
        os.umask(before)
    assert (tmp_path / "report.md").stat().st_mode & 0o777 == 0o640


# --- words ---


def test_summary_tells_wins_losses_and_the_oracle():
    report = made_up({"pull": 1.0, "learnt": 0.6, "worse": 1.3, "tied": 1.0, "oracle": 0.2}, noise=0.01)
    text = " ".join(summary(report)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Under fifo, the best classical rule is pull in 2 (lossy, mixed) of 2 scenarios." in text
    assert re.search(r"the oracle's slowdown is 55\.\d % less than the best classical rule's", text)
    assert re.search(
        r"learnt is 3\d\.\d % less .* closes (49|50)\.\d % .* It loses nowhere for certain.", text
    )
    assert re.search(r"worse is 3\d\.\d % more .* It loses in (lossy|mixed) \(\+3\d\.\d %\) and", text)
    assert "Tasks failed" not in text


def test_failures_are_told():
    report = made_up(POLICIES)
    report.figures["failed"][0, 1, 2] = 3.0
    assert "Tasks failed: learnt in lossy under srpt." in summary(report)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5, "1,234"),
        (-0.01234, "\N{MINUS SIGN}0.0123"),
        (1.0, "1.00"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_percentages():
    shown = [signed_percent(value).replace("\N{NO-BREAK SPACE}", " ") for value in (0.1, -0.1, -1e-9, 3.0)]
    assert shown == ["+10.0 %", "\N{MINUS SIGN}10.0 %", "0.0 %", "+300 %"]
    assert percent(float("nan")) == figure("reward", float("nan")) == "\N{EN DASH}"
    assert label("least_completion_time") == "least completion time"
    assert seeds_text((1, 2, 3)) == "3 (1 to 3)"
    assert seeds_text((1, 5)) == "2: 1, 5"


def test_markdown_holds_everything(report):
    text = report.to_markdown()
    for word in (
        *map(label, POLICIES),
        "lossy, fifo",
        "mixed, srpt",
        "itp evaluate --seeds 12",
        "about mixed",
    ):
        assert word in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 2 + 2 + 2 * 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    row = report.analysis.group("lossy", "fifo").row("learnt")
    shown = [number(row.slowdown.value), interval(row.slowdown)]
    shown += [figure("p99_slowdown", row.figures["p99_slowdown"].value), figure("mean_s", row.mean_s.value)]
    shown += [figure("goodput_mbps", row.figures["goodput_mbps"].value)]
    assert f"| {' | '.join(shown)} |" in text


def test_losses_come_first():
    report = made_up({"pull": 1.0, "size_interval": 0.9, "learnt": 0.95, "oracle": 0.2}, noise=0.02)
    report.figures["log_slowdown"][0, :, 2] = 1.2
    for average in report.analysis.averages:
        table = losses_first(report, average, "learnt")
        assert [line.policy for line in table.lines] == ["average", "lossy", "mixed"]
        groups = [report.analysis.group(name, average.service_order) for name in ("lossy", "mixed")]
        for line, group in zip(table.lines[1:], groups, strict=True):
            changes = group.row("learnt").changes
            assert [line.cells[k].text for k in (0, 1, 3)] == [
                "size interval",
                signed_percent(changes["slowdown"].value),
                signed_percent(changes["slowdown_untuned"].value),
            ]
            assert line.cells[4].text == label(group.rivals["mean_time"].policy)
            assert line.cells[5].text == signed_percent(changes["mean_time"].value)
            assert changes["slowdown"].value > changes["slowdown_untuned"].value
    text = " ".join(summary(report))
    assert "Against the best rules without tuning the changes are" in text
    alone = made_up({"learnt": 1.0, "oracle": 0.5})
    assert losses_first(alone, alone.analysis.averages[0], "learnt") is None


# --- page ---


def test_page_is_well_formed_and_self_contained(page):
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert outline.references
    assert all(reference[0] == "#" for reference in outline.references)
    assert {reference[1:] for reference in outline.references} <= set(outline.ids)
    # What a browser would fetch: by attributes (above), style sheets or scripts.
    assert not re.search(r"https?:|@import|url\((?!#)|fetch\(|XMLHttpRequest|<script src|<link", page)


def test_page_holds_every_policy_and_scenario(page, report):
    outline = Outline()
    outline.feed(page)
    words = " ".join(outline.text)
    for name in (*map(label, POLICIES), *report.configuration.scenarios, report.configuration.command):
        assert name in words
    for sentence in summary(report):
        assert sentence in words
    assert "about lossy &lt;&amp;&gt;" in page


def test_page_of_all_families_is_small(tmp_path):
    levels = {name: 1.0 + 0.1 * k for k, name in enumerate(NAMES)}
    big = made_up(levels, scenarios=FAMILIES, n_seeds=30)
    path = big.to_html(tmp_path / "big.html")
    assert path.stat().st_size < 3_000_000
    text = path.read_text(encoding="utf-8")
    for name in (*map(label, NAMES), *FAMILIES):
        assert name in text


@pytest.mark.parametrize(
    "levels", [{"learnt": 1.0}, {"oracle": 1.0}, {"pull": 1.0}, {"a<b>&\"'": 1.0, "pull": 2.0}]
)
def test_any_choice_of_policies_makes_a_page(levels, tmp_path):
    small = made_up(levels, scenarios=("lossy",), n_seeds=1)
    outline = Outline()
    outline.feed(small.to_html(tmp_path / "small.html").read_text(encoding="utf-8"))
    assert outline.open == []
    assert next(iter(levels)) in "".join(outline.text)
    assert small.to_markdown()


def test_charts_are_files(report, tmp_path):
    paths = report.plot(tmp_path / "charts")
    assert sorted(os.listdir(tmp_path / "charts")) == sorted(path.name for path in paths)
    names = {path.stem for path in paths}
    assert {"gain-fifo", "gap-srpt", "completion-lossy-fifo", "timeline-lossy-srpt-oracle"} <= names
    for path in paths:
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert list(root.iter("{http://www.w3.org/2000/svg}text"))


def test_charts_without_matplotlib_say_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "itp.evaluation.charts", raising=False)
    monkeypatch.delitem(sys.modules, "itp.evaluation.html", raising=False)
    for call in (report.to_html, report.plot):
        with pytest.raises(MissingExtraError, match=re.escape("pip install 'itp[report]'")):
            call(tmp_path / "out")
    assert os.listdir(tmp_path) == []
