"""The page of a listening test: what is in it, and a real browser in which a listener goes through it."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
from chromium import driven
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.support.ui import WebDriverWait

from coqui_scl_plugin.evaluation.listening.answers import Key, read_answers, read_key
from coqui_scl_plugin.evaluation.listening.page import WrittenTest, write_test
from coqui_scl_plugin.evaluation.listening.questions import draw_questions
from coqui_scl_plugin.evaluation.listening.score import score

RUNS = ("without_scl", "with_scl")


class Made(NamedTuple):
    folder: Path
    written: WrittenTest

    @property
    def page(self) -> str:
        return (self.folder / "listen.html").read_text(encoding="utf-8")

    @property
    def content(self) -> dict:
        return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', self.page, re.S)[1])


def make(folder, two_runs, seed=0):
    return Made(folder, write_test(folder, RUNS, seed, draw_questions(*two_runs, catch=6, seed=seed)))


@pytest.fixture(scope="module")
def made(tmp_path_factory, two_runs):
    return make(tmp_path_factory.mktemp("page"), two_runs)


def test_the_page_tells_nothing_about_runs_speakers_and_catch_trials(made):
    content, visible = made.content, re.sub(r"<script.*?</script>", "", made.page, flags=re.S)
    for word in (*RUNS, "quiet/", "loud/", "awb", "kal16", "slt", "catch", "wrong"):
        assert word not in visible
        assert word not in json.dumps({**content, "clips": []})
    assert set(content) == {"page", "clips", "questions"}
    assert all(set(question) == {"part", "reference", "samples"} for question in content["questions"])
    for clip in content["clips"]:
        assert base64.b64decode(clip)[:4] == b"fLaC"
    assert len(set(content["clips"])) == len(content["clips"])


def test_each_clip_is_what_the_key_says(made, two_runs):
    """The samples of a run are in the page, at another loudness."""
    content, key = made.content, read_key(made.folder)
    assert key == made.written.key
    for question, known in zip(content["questions"], key.questions, strict=True):
        for number, kind in zip(question["samples"], known.samples, strict=True):
            samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content["clips"][number])))
            assert rate == 16_000
            if kind in "AB":
                originals = [one for one in two_runs["AB".index(kind)].synthetic if one.speaker == known.speaker]
                cosines = []
                for one in originals:
                    original, _ = soundfile.read(one.path)
                    cosines.append(samples @ original / (samples @ samples * (original @ original)) ** 0.5)
                assert max(cosines) > 0.999


def test_a_seed_makes_the_same_page_again_and_another_one_another(made, two_runs, tmp_path):
    assert make(tmp_path / "again", two_runs).page == made.page
    other = make(tmp_path / "other", two_runs, seed=1)
    assert other.written.key.page != made.written.key.page
    assert other.content["questions"] != made.content["questions"]


# --- in a browser -----------------------------------------------------------------------------------------------------


FASTER = """
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () { this.playbackRate = 4; return play.call(this); };
"""


class Listener:
    """A person at the page, who has only eyes, a keyboard and fingers."""

    def __init__(self, browser: Chrome, page: Path) -> None:
        self.browser = browser
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
        browser.get(page.as_uri())

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def text(self, name: str) -> str:
        return self.browser.find_element("id", name).text

    def button(self, label: str):
        buttons = self.browser.find_elements("tag name", "button")
        return next(one for one in buttons if one.is_displayed() and label in one.text)

    def sees(self, name: str) -> bool:
        return self.browser.find_element("id", name).is_displayed()

    def hear(self) -> None:
        """Wait until all samples were heard."""
        WebDriverWait(self.browser, 10, 0.05).until(lambda _: self.text("hint") == "Choose sample 1 or sample 2.")

    def reload(self) -> None:
        self.browser.refresh()

    def fits(self) -> bool:
        return self.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")

    def saved(self, folder: Path, file: str) -> dict:
        WebDriverWait(self.browser, 10, 0.05).until(lambda _: (folder / file).is_file())
        return json.loads((folder / file).read_text())


def wanted(key: Key) -> Iterator[int]:
    """The samples of a listener who prefers the second run and passes the catch trials."""
    for question in key.questions:
        yield question.samples.index("right" if question.is_catch else "B") + 1


def test_by_keyboard(made, tmp_path):
    key = made.written.key
    choices = list(wanted(key))
    with driven(tmp_path, 1280, 900) as browser:
        listener = Listener(browser, made.folder / "listen.html")
        listener.press(Keys.TAB, Keys.TAB, "Ann B", Keys.ENTER)  # past the button that tests the volume
        assert listener.text("place") == f"Part 1 of 2, who is it? Question 1 of {len(choices)}"
        listener.press(str(choices[0]))
        assert listener.text("hint").startswith("Listen to everything first. Still to hear: the reference, sample 1")
        assert "Question 1 " in listener.text("place")
        listener.press("r")
        WebDriverWait(browser, 10, 0.05).until(lambda _: "✓" in listener.button("Reference").text)
        listener.press(str(choices[0]))
        assert listener.text("hint") == "Listen to everything first. Still to hear: sample 1, sample 2."
        for number, choice in enumerate(choices):
            assert f"Question {number + 1} " in listener.text("place")
            assert listener.sees("all")
            listener.press(" ")
            listener.hear()
            if number == 2:  # changes their mind on the question before, and comes back
                listener.press(Keys.ARROW_LEFT)
                assert "Question 2 " in listener.text("place")
                pressed = browser.find_element("css selector", "[aria-pressed=true]")
                assert pressed.text == f"Choose sample {choices[1]}"
                listener.press(str(3 - choices[1]), Keys.ARROW_LEFT, str(choices[1]))
                listener.reload()
                assert f"2 of {len(choices)} questions are answered." in listener.text("resumed")
                listener.button("Continue").click()
                listener.press(" ")
                listener.hear()
            listener.press(str(choice))
        assert listener.text("done") == "All questions are answered"
        listener.button("Save the answers").click()
        saved = listener.saved(tmp_path, "answers-Ann-B.json")
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in fetched if not name.startswith("blob:")] == []
        assert browser.get_log("browser") == []
    assert saved["answers"] == choices
    found = score(key, *read_answers([tmp_path / "answers-Ann-B.json"], key))
    assert found["warnings"] == []
    assert [found["parts"][part]["overall"]["share"] for part in found["parts"]] == [1.0, 1.0]


def test_on_a_phone(made, tmp_path):
    choices = list(wanted(made.written.key))
    with driven(tmp_path, 390, 844) as browser:
        listener = Listener(browser, made.folder / "listen.html")
        listener.button("Start").click()
        assert listener.sees("start")  # a name is missing
        browser.find_element("id", "listener").send_keys("Bo")
        browser.find_element("id", "keys").click()
        assert listener.fits()
        listener.button("Start").click()
        assert listener.fits()
        listener.press(" ")  # keys are off now
        assert listener.button("Play all")
        early = listener.button("Choose sample 1")
        assert early.get_attribute("aria-disabled") == "true"
        early.click()
        for label in ("Sample 2", "Sample 1", "Reference"):
            assert "Question 1 " in listener.text("place")
            play = listener.button(f"▶ {label}")
            assert play.rect["height"] >= 44
            assert play.accessible_name == f"Play {label}"
            play.click()
            WebDriverWait(browser, 10, 0.05).until(lambda _, label=label: f"▶ {label} ✓" in listener.button(label).text)
        listener.button(f"Choose sample {choices[0]}").click()
        assert "Question 2 " in listener.text("place")
        assert browser.switch_to.active_element.text == "Which sample is the person in the reference?"
        listener.button("Save the answers so far").click()
        assert listener.saved(tmp_path, "answers-Bo.json")["answers"] == [choices[0]] + [None] * (len(choices) - 1)
        assert browser.get_log("browser") == []
