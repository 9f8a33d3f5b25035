import base64
import copy
import html
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import OPTIONS, find_browser
from PIL import Image

from coqui_scl_plugin.evaluation import plots, report
from coqui_scl_plugin.evaluation.verification import MEASURES

ADDRESSES = {"src", "href", "xlink:href", "srcset", "poster", "action", "data", "style"}


class Page(HTMLParser):
    """A page, taken apart: `tables` of `<td>` texts by `<tr>`, `headers` of `<th>` texts, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.headers: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "td":
            self.tables[-1][-1].append("")
        elif tag == "th":
            self.headers.append("")
        if tag in ("td", "th", "style", "script"):
            self._inside = tag

    def handle_endtag(self, tag):
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data):
        if self._inside == "td":
            self.tables[-1][-1][-1] += data
        elif self._inside == "th":
            self.headers[-1] += data
        if self._inside != "style":
            self.text += data

    def rows(self, table: int) -> list[list[str]]:
        """Those of a table that hold cells, with single spaces."""
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[table] if row]

    def of(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name) and value is not None]


def number(value, digits=3, sign=""):
    return "–" if value is None else f"{value:{sign}.{digits}f}".replace("-", "−")


def interval(found, sign=""):
    if found is None:
        return "–"
    return f"{number(found['mean'], 3, sign)} [{number(found['low'], 3, sign)}, {number(found['high'], 3, sign)}]"


def summary_of(evaluations):
    return [
        [
            plots.ROLES[encoder["role"]], *(interval(encoder[measure]) for measure in MEASURES),
            number(encoder["eer"], 2), number(encoder["real_eer"], 2),
            *(number(encoder[key]) for key in ("min_dcf", "real_min_dcf", "floor", "ceiling")),
        ]
        for evaluation in evaluations
        for encoder in evaluation["encoders"].values()
    ]  # fmt: skip


def speakers_of(evaluation):
    encoders = list(evaluation["encoders"].values())
    return [
        [str(encoders[0]["speakers"][speaker]["recordings"])]
        + [number(encoder["speakers"][speaker][measure]) for encoder in encoders for measure in MEASURES]
        for speaker in evaluation["speakers"]
    ]


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_figures")
def test_numbers_of_one_evaluation(made_results):
    results = made_results("mine")
    page = Page(report.render(results))
    assert page.rows(0) == summary_of([results])
    assert page.rows(1) == speakers_of(results)
    assert "Comparison" not in page.text


@pytest.mark.usefixtures("no_figures")
def test_numbers_of_several_evaluations(made_results):
    results = made_results("before", "after", "later")
    page = Page(report.render(results))
    assert page.rows(0) == summary_of(results["evaluations"].values())
    words = {
        "secs": "SECS",
        "cross_utterance": "Cross-utterance",
        "calibrated_cross_utterance": "Calibrated cross-utterance",
    }
    assert page.rows(1) == [
        [
            words[row["measure"]], str(row["speakers"]), interval(row["difference"], "+"),
            "yes" if row["distinguishable"] else "no",
        ]
        for row in sorted(results["comparisons"], key=lambda row: row["evaluation"])
    ]  # fmt: skip
    for table, evaluation in enumerate(results["evaluations"].values(), start=2):
        assert page.rows(table) == speakers_of(evaluation)


@pytest.mark.usefixtures("no_figures")
def test_order_of_evaluations_is_kept_in_comparisons(made_results):
    page = Page(report.render(made_results("base", "second", "first")))
    after = page.headers[page.headers.index("Distinguishablefrom zero") :]
    assert after.index("second") < after.index("first")


@pytest.mark.usefixtures("no_figures")
def test_settings_and_warnings(made_results):
    results = made_results("mine")
    page = Page(report.render(results))
    assert "Note: Something about mine." in " ".join(page.text.split())
    for text in ("17", "999", "0.95", "as recorded", "0.05", "2.4.6", '{"layer": 3}'):
        assert any(text in row for table in range(2, 5) for row in page.rows(table)), text
    for encoder in results["encoders"].values():
        assert any(encoder["fingerprint"] in row for row in page.rows(3))


@pytest.mark.usefixtures("no_figures")
def test_many_warnings_are_all_there(made_results):
    results = made_results("mine") | {"warnings": [f"Warning number {n}." for n in range(30)]}
    text = report.render(results)
    assert all(f"Warning number {n}." in text for n in range(30))


@pytest.mark.usefixtures("no_figures")
def test_what_is_not_known_is_a_dash(made_results):
    results = made_results("mine", speakers=("ann",))
    for encoder in results["encoders"].values():
        encoder |= dict.fromkeys(
            ("eer", "real_eer", "min_dcf", "real_min_dcf", "floor", "ceiling", "calibrated_cross_utterance")
        )
        encoder["secs"] |= {"low": None, "high": None}
        encoder["speakers"]["ann"]["calibrated_cross_utterance"] = None
        encoder["matrix"] = [[None]]
    results["trials"]["rows"] = results["real_trials"]["rows"] = []
    page = Page(report.render(results))
    assert page.rows(0) == summary_of([results])
    assert page.rows(0)[0][3:] == ["–"] * 7
    assert page.rows(0)[0][1].endswith("[–, –]")
    assert page.rows(1) == speakers_of(results)
    assert "no trade-off to draw" in page.text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("rows", [True, False])
def test_training_only_where_there_was_some(made_results, rows):
    results = made_results("mine")
    if not rows:
        results["history"] = []
    page = Page(report.render(results))
    assert ("During training" in page.text) is rows
    assert ("Step 300: it diverges" in page.text) is rows


def judgement(mean, speakers, **more):
    speakers = {speaker: {"recordings": 1, "synthetic": mean + n, "real": None} for n, speaker in enumerate(speakers)}
    value = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    return {"model": "<judge>", "synthetic": value, "real": None, "speakers": speakers, **more}


@pytest.mark.usefixtures("no_figures")
def test_what_judges_found(made_results):
    results = made_results("before", "after")
    languages = {"en": judgement(0.1, ["ann", "bob"]), "pt": judgement(0.3, ["cid"])}
    for shift, evaluation in enumerate(results["evaluations"].values()):
        speakers = evaluation["speakers"]
        cer = judgement(0.2 + shift, speakers, languages=languages)
        evaluation["judges"] = {"dnsmos": judgement(3.1 + shift, speakers), "cer": cer}
        evaluation["recordings"]["synthetic"][0] |= {"dnsmos": 3.25 + shift, "cer": None, "heard": "<b>eard"}
    difference = {"mean": -0.5, "low": -0.6, "high": -0.4}
    row = {
        "baseline": "before",
        "evaluation": "after",
        "speakers": 3,
        "difference": difference,
        "distinguishable": True,
    }
    results["comparisons"] += [
        row | {"encoder": None, "measure": "dnsmos", "language": None},
        row | {"encoder": None, "measure": "cer", "language": "pt"},
    ]
    page = Page(report.render(results))
    assert [cells[0] for cells in page.rows(1)[-2:]] == ["DNSMOS", "Character error rate, pt"]
    assert page.rows(1)[-1][2:] == ["−0.500 [−0.600, −0.400]", "yes"]
    means = (3.1, 0.2, 0.1, 0.3, 4.1, 1.2, 0.1, 0.3)
    assert page.rows(4) == [[f"{m:.3f} [{m - 0.1:.3f}, {m + 0.1:.3f}]", "–", "<judge>"] for m in means]
    assert page.rows(5) == [
        ["3.100", "–", "0.200", "–", "0.100", "–", "–", "–"],
        ["4.100", "–", "1.200", "–", "1.100", "–", "–", "–"],
        ["5.100", "–", "2.200", "–", "–", "–", "0.300", "–"],
    ]
    text = " ".join(page.text.split())
    for shift in (0, 1):
        assert f"Recognised: “<b>eard” DNSMOS {3.25 + shift:.3f}; Character error rate –" in text


@pytest.mark.usefixtures("no_figures")
def test_without_judges_the_page_does_not_name_them(made_results):
    text = report.render(made_results("before", "after"))
    assert not re.search("DNSMOS|Character error|Recognised|intelligibility", text)


# --- what it holds ----------------------------------------------------------------------------------------------------


def test_names_are_text(made_results):
    name = "<script>alert('$x_$')</script>"
    results = made_results(f"{name}", "other", speakers=(name, "<b>$x_$", "数"), roles={"<i>": "unknown"})
    text = report.render(results)
    page = Page(text)
    assert not {"script", "b", "i"} & {tag for tag, *_ in page.attributes}
    assert not re.search("<(script|b|i)>", text)
    assert name in page.headers
    assert page.text.count("…")  # as a label of a matrix, shortened
    assert "<b>$x_$" in page.text


def test_nothing_is_fetched(made_results):
    text = report.render(made_results("before", "after"))
    page = Page(text)
    for tag, name, value in page.attributes:
        if name in ADDRESSES:
            for address in re.findall(r"url\(([^)]*)\)", value) if name == "style" else [value]:
                assert address.startswith(("#", "data:")), (tag, name, value)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, *_ in page.attributes}
    style = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
    assert not any("url(" in rules or "@import" in rules for rules in style)


def test_ids_are_unique_and_meant(made_results):
    page = Page(report.render(made_results("before", "after")))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    meant = {match for _, _, value in page.attributes if value for match in re.findall(r"^#(.+)|url\(#(.+?)\)", value)}
    assert meant
    assert {a or b for a, b in meant} <= set(ids)


def test_same_results_give_the_same_page(made_results):
    results = made_results("before", "after")
    assert report.render(results) == report.render(copy.deepcopy(results))


@pytest.mark.usefixtures("no_figures")
def test_audio_is_that_of_the_files(made_results):
    results = made_results("before", "after")
    sources = Page(report.render(results)).of("audio", "src")
    assert len(sources) == 3 * 3
    found = [soundfile.read(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) for source in sources]
    lists = [results["evaluations"]["before"]["recordings"]["real"]]
    lists += [results["evaluations"][label]["recordings"]["synthetic"] for label in ("before", "after")]
    paths = [recordings[speaker]["path"] for speaker in range(3) for recordings in lists]
    for (samples, rate), path in zip(found, paths, strict=True):
        original, original_rate = soundfile.read(path)
        assert rate == original_rate
        np.testing.assert_allclose(samples, original, atol=2**-14)


@pytest.mark.usefixtures("no_figures")
def test_evaluations_are_played_on_one_reference(made_results):
    results = made_results("before", "after", speakers=("ann",))
    real = results["evaluations"]["before"]["recordings"]["real"]
    real.append(real[0] | {"name": "common"})
    for evaluation in results["evaluations"].values():
        copies = evaluation["recordings"]["synthetic"]
        copies[0]["reference"] = evaluation["label"]
        copies.append(copies[0] | {"name": f"common of {evaluation['label']}", "reference": "common"})
    text = Page(report.render(results)).text
    for player in ("Reference: common", "before: common of before", "after: common of after"):
        assert player in text


@pytest.mark.usefixtures("no_figures")
def test_long_recordings_are_cut(made_results):
    results = made_results("mine", speakers=("ann",))
    path = results["recordings"]["real"][0]["path"]
    soundfile.write(path, np.zeros((11 * 4000, 2)), 4000)
    source = Page(report.render(results)).of("audio", "src")[0]
    info = soundfile.info(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
    assert (info.duration, info.channels, info.samplerate) == (10, 1, 4000)


@pytest.mark.usefixtures("no_figures")
def test_missing_and_broken_audio(made_results):
    results = made_results("mine")
    recordings = results["recordings"]["synthetic"]
    Path(recordings[0]["path"]).unlink()
    Path(recordings[1]["path"]).write_bytes(b"no audio")
    soundfile.write(recordings[2]["path"], np.zeros(0), 8000)
    recordings[2]["problem"] = "empty"
    page = Page(report.render(results))
    assert "mine: copy 0 (the file no longer exists)" in page.text
    assert "mine: copy 1 (the file can no longer be read)" in page.text
    assert "mine: copy 2 (empty)" in page.text
    assert len(page.of("audio", "src")) == 3


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("encoders", [1, 5])
def test_many_speakers(made_results, encoders):
    roles = {f"encoder{n}": "unknown" for n in range(encoders)}
    results = made_results("mine", speakers=tuple(f"speaker {n}" for n in range(40)), roles=roles)
    page = Page(report.render(results))
    assert len(page.rows(1)) == 40
    assert len(page.of("audio", "src")) == 2 * 10
    assert "speaker 39" in page.headers


@pytest.mark.usefixtures("no_figures")
def test_write(made_results, tmp_path):
    results = made_results("mine")
    path = report.write(tmp_path / "new", results)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == report.render(results)


@pytest.mark.usefixtures("no_figures")
def test_a_report_that_cannot_be_written_leaves_the_old_one(made_results, tmp_path):
    results = made_results("mine")
    path = report.write(tmp_path / "new", results)
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        report.write(path.parent, results | {"warnings": ["\udc80"]})
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes() == before


# --- figures ----------------------------------------------------------------------------------------------------------


def curves(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}


def calibrated(**values):
    return {f"calibrated_cross_utterance_{alias}": value for alias, value in values.items()}


def test_history_of_text_and_gaps():
    rows = [
        {"step": "0", **calibrated(alpha="", beta=None, gamma="0.1"), "flags": ""},
        {"step": "10", **calibrated(alpha="0.5", beta=0.25, gamma="0.2"), "flags": "too far"},
    ]
    lines = curves(plots.history_figure(rows, {"beta": "holdout", "alpha": "training"}))
    assert [*lines] == ["beta, held-out", "alpha, training", "gamma", "flagged"]
    assert [line.get_linestyle() for line in lines.values()][:3] == ["--", "-", "-."]
    np.testing.assert_array_equal(lines["alpha, training"].get_ydata(), [np.nan, 0.5])
    np.testing.assert_array_equal(lines["flagged"].get_xdata(), [10])


def test_history_without_calibration_shows_cosines():
    rows = [
        {"step": step, "cross_utterance_alpha": 0.1 * step, "calibrated_cross_utterance_alpha": None, "flags": ""}
        for step in range(3)
    ]
    figure = plots.history_figure(rows, {"alpha": "training"})
    np.testing.assert_allclose(curves(figure)["alpha, training"].get_ydata(), [0, 0.1, 0.2])
    assert figure.axes[0].get_ylabel() == "cross-utterance (cosine)"


def test_history_of_nothing_known():
    assert plots.as_svg(plots.history_figure([{"step": 0, "flags": ""}], {"alpha": "training"}), "a").startswith("<svg")


def test_trade_off_goes_through_the_error_rates():
    trials = {
        "columns": ["first", "second", "same_speaker", "alpha"],
        "rows": [["a", "b", True, 0.9], ["a", "b", True, 0.4], ["a", "c", False, 0.7], ["a", "c", False, 0.1]],
    }
    figure = plots.det_figure(trials, trials | {"rows": []}, ["alpha"])
    line = curves(figure)["alpha: synthetic and real"]
    points = set(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert (0.5, 0.5) in points
    assert "alpha: real alone" not in curves(figure)
    assert plots.det_figure(trials | {"rows": trials["rows"][:2]}, trials | {"rows": []}, ["alpha"]) is None


def test_histogram_counts_every_trial():
    rows = [["a", "b", True, 0.9]] * 3 + [["a", "c", False, 0.1]] * 2
    trials = {"columns": ["first", "second", "same_speaker", "alpha"], "rows": rows}
    figure = plots.histogram_figure(trials, trials, "alpha")
    heights = [patch.get_path().vertices[:, 1].max() for patch in figure.axes[0].patches]
    assert heights == pytest.approx([100] * 4)


def texts(svg):
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


@pytest.mark.parametrize(("count", "numbers"), [(15, 225), (16, 0), (100, 0)])
def test_matrix_of_many_has_no_numbers(count, numbers):
    speakers = [f"p{n}" for n in range(count)]
    shown = texts(plots.as_svg(plots.matrix_figure(speakers, [[0.123] * count] * count), "a"))
    assert shown.count("0.12") == numbers
    assert {*speakers} <= {*shown}


def test_matrix_has_numbers_and_dashes():
    svg = plots.as_svg(plots.matrix_figure(["ann", "bob"], [[0.5, None], [-0.25, 1.0]]), "a")
    assert {"0.50", "–", "-0.25", "1.00", "ann", "bob"} <= {*texts(svg)}


# --- in a browser -----------------------------------------------------------------------------------------------------

PROBE = """
<script>
addEventListener("load", async () => {
  const audio = [...document.querySelectorAll("audio")];
  const loaded = a => new Promise(done => { a.onloadedmetadata = a.onerror = done; });
  await Promise.all(audio.map(a => a.readyState || a.error || loaded(a)));
  parent.postMessage({
    inner: innerWidth,
    scroll: document.documentElement.scrollWidth,
    audio: audio.length,
    playable: audio.filter(a => a.readyState > 0 && !a.error && a.duration > 0.2).length,
    empty: [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().height < 50).length,
    fetched: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
  }, "*");
});
</script>
"""
# a window of headless Chromium is 500 px wide at least, so the page is looked at through a frame of the width wanted
FRAME = """<!DOCTYPE html><body style="margin:0">
<script>addEventListener("message", e => document.body.dataset.found = JSON.stringify(e.data));</script>
<iframe src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>
"""


@pytest.fixture(scope="module")
def browser():
    return find_browser()


def opened(browser, folder: Path, page: Path, width: int, height: int) -> tuple[dict, Image.Image]:
    """What the probe in `page` finds at a width and height in px, and a picture of it."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(FRAME.format(page=page.name, width=width, height=height), encoding="utf-8")
    command = [
        browser,
        *OPTIONS,
        "--virtual-time-budget=10000",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={max(width, 500)},{height}",
    ]
    run = {"check": True, "capture_output": True, "timeout": 120}
    dumped = subprocess.run([*command, "--dump-dom", frame.as_uri()], text=True, **run).stdout
    picture = folder / f"{width}.png"
    subprocess.run([*command, f"--screenshot={picture}", frame.as_uri()], **run)
    found = re.search(r'data-found="([^"]*)"', dumped)
    assert found, dumped[-2000:]
    with Image.open(picture) as image:
        return json.loads(html.unescape(found[1])), image.convert("RGB").crop((0, 0, width, height))


@pytest.mark.parametrize(("width", "height"), [(375, 800), (1280, 900)])
def test_in_a_browser(made_results, browser, tmp_path, width, height):
    speakers = ("a_speaker_with_a_very_long_name_that_has_no_space_in_it_at_all", *(f"p{n}" for n in range(11)))
    roles = {"alpha": "training", "beta": "holdout", "an_encoder_with_a_long_name": "unknown"}
    page = report.write(tmp_path, made_results("before", "after_" + "x" * 60, speakers=speakers, roles=roles))
    with page.open("a", encoding="utf-8") as stream:
        stream.write(PROBE)
    found, picture = opened(browser, tmp_path, page, width, height)
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["audio"] == found["playable"] == 10 * 3
    assert found["empty"] == 0
    assert found["fetched"] == []
    assert picture.size == (width, height)
    assert len(picture.getcolors(width * height)) > 50  # a blank page has one
