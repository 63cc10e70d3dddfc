"""The page in a real browser: Chromium, driven by its own driver over plain HTTP."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request

import numpy as np
import pytest

import layerflow as lf
from layerflow.report.graph import draw

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed"),
    pytest.mark.skipif(
        shutil.which("dot") is None and importlib.util.find_spec("igraph") is None,
        reason="neither graphviz nor igraph is installed",
    ),
]
RIGHT, LEFT, HOME, END = "\ue014", "\ue012", "\ue011", "\ue010"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,800"
)


class Browser:
    """The few verbs of the WebDriver protocol (https://www.w3.org/TR/webdriver2/) that the tests need."""

    def __init__(self, address, profile):
        self.address = address
        options = {"binary": BROWSER, "args": [*FLAGS.split(), f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = ""
        self.session = "/" + self.send("", capabilities={"alwaysMatch": wanted})["sessionId"]

    def send(self, verb, **fields):
        request = urllib.request.Request(f"{self.address}/session{self.session}{verb}", json.dumps(fields).encode())
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]

    def open(self, path):
        self.send("/url", url="about:blank")
        self.send("/url", url=path.as_uri())

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.send("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def ask(self, script):
        return self.send("/execute/sync", script=f"return {script}", args=[])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    driver = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        for line in driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                break
        urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
        opened = Browser(f"http://localhost:{found[1]}", tmp_path_factory.mktemp("profile"))
        yield opened
        urllib.request.urlopen(urllib.request.Request(f"{opened.address}/session{opened.session}", method="DELETE"))
    finally:
        driver.terminate()
        driver.wait(10)
        driver.stdout.close()


SHOWN = """[...document.querySelectorAll('#stage .ROLE')].map(
    part => part.classList.contains('hidden') ? '' : part.querySelector('text').textContent)"""
PANEL = "document.getElementById('panel').innerText"
CURRENT = "[...document.querySelectorAll('.item.current')].map(item => item.id)"


def shown(browser, role):
    return browser.ask(SHOWN.replace("ROLE", role))


def test_the_arrow_keys_walk_through_both_sweeps(browser, tmp_path, lecture):
    browser.open(draw(lecture, tmp_path / "g.html"))
    assert shown(browser, "above") == ["-2", "5", "3", "-4", "-12"]
    assert shown(browser, "below") == ["-4", "-4", "-4", "3", "1"]
    browser.press(RIGHT)
    assert browser.ask(CURRENT) == ["gate0"]
    assert shown(browser, "above") == ["-2", "5", "3", "-4", ""]
    assert shown(browser, "below") == [""] * 5
    browser.press(RIGHT)
    assert shown(browser, "above") == ["-2", "5", "3", "-4", "-12"]
    browser.press(RIGHT)
    assert browser.ask(CURRENT) == ["gate1"]
    assert shown(browser, "below") == ["", "", "-4", "3", "1"]
    assert "1 × -4 = -4" in browser.ask(PANEL)
    assert "dy/da = b, dy/db = a" in browser.ask(PANEL)
    browser.press(RIGHT)
    assert shown(browser, "below") == ["-4", "-4", "-4", "3", "1"]
    browser.press(RIGHT, RIGHT)
    assert browser.ask("document.documentElement.dataset.position") == "4"
    browser.press(LEFT, LEFT, LEFT)
    assert browser.ask(CURRENT) == ["gate0"]
    browser.press(HOME)
    assert browser.ask(CURRENT) == []


def test_buttons_zoom_and_theme(browser, tmp_path, lecture):
    browser.open(draw(lecture, tmp_path / "g.html"))
    width = "Number(document.querySelector('#stage svg').getAttribute('viewBox').split(' ')[2])"
    before = browser.ask(width)
    browser.ask("document.getElementById('in').click()")
    assert browser.ask(width) == pytest.approx(before / 1.3)
    browser.press("0")
    assert browser.ask(width) == pytest.approx(before)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser.ask(paper)
    browser.press("d")
    assert browser.ask(paper) != light
    browser.ask("document.getElementById('next').click()")
    assert browser.ask(CURRENT) == ["gate0"]
    browser.ask("document.getElementById('gate1').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.ask(CURRENT) == ["gate1"]


def test_two_hundred_gates_stay_readable_and_in_sight(browser, tmp_path):
    graph = lf.ComputationalGraph()
    node = graph.input("x", np.linspace(-1, 1, 6))
    for _ in range(67):
        node = (node * 0.9 + node).tanh()
    node.sum().backward()
    browser.open(draw(graph, tmp_path / "g.html"))
    browser.press(*[RIGHT] * 150)
    started = time.monotonic()
    while browser.ask(CURRENT) != ["gate149"] and time.monotonic() - started < 120:
        time.sleep(0.05)
    box = browser.ask("document.querySelector('.item.current').getBoundingClientRect().toJSON()")
    stage = browser.ask("document.getElementById('stage').getBoundingClientRect().toJSON()")
    assert stage["left"] < box["left"] and box["right"] < stage["right"]
    assert stage["top"] < box["top"] and box["bottom"] < stage["bottom"]
    assert box["height"] >= 20
    assert browser.ask("getComputedStyle(document.getElementById('map')).display") == "block"


def test_the_page_loads_nothing_and_reports_no_error(browser, tmp_path, forked):
    path = draw(forked, tmp_path / "g.html")
    addresses = re.findall(r"https?://[^\s\"'<>]+", path.read_text("utf-8"))
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    browser.open(path)
    browser.press(RIGHT, END, HOME)
    assert browser.ask("performance.getEntriesByType('resource').length") == 0
    assert [entry["message"] for entry in browser.send("/se/log", type="browser")] == []


def test_a_graph_without_values_is_walked_forwards(browser, tmp_path):
    browser.open(draw(lf.Sequential(lf.Linear(3), lf.ReLU()), tmp_path / "g.html"))
    browser.press(RIGHT)
    assert "s = x W^T + b" in browser.ask(PANEL)
    browser.press(END)
    assert browser.ask(CURRENT) == ["gate1"]
