"""The page in a real browser, on a tiny model and index, served from this process."""

import base64
import http.client
import json
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

pytest.importorskip("gradio", reason="the page needs Gradio")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import HOSTILE, indexed
from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answers
from vse_gpo.search.api import build_api
from vse_gpo.search.items import Compaction
from vse_gpo.search.page import build_page, serve

CAPTIONS = ["a red circle", "a blue square", "<b>a heart</b> ${1+1}"]
PATIENCE = 120  # seconds; a browser on a busy machine starts slowly


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for seed, file in enumerate([HOSTILE, *(f"{number}.png" for number in range(5))]):
        paint(home / "pictures" / file, seed)
    return home


@pytest.fixture(scope="module")
def answers(home) -> Answers:
    model = small_model(interaction="MaxSim")
    return Answers(indexed(home, model, Compaction(5, "int8")), model, CAPTIONS, rerank=6)


@pytest.fixture(scope="module")
def address(answers, home) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(home / "uploads"))
        page = build_page(answers, examples=["a red circle", "<b>bold</b>"], top=4)
        yield serve(page, api=partial(build_api, answers), host="127.0.0.1", port=port, open_browser=False)
        page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    places = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program, driver = next((place for place in places if place), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,1200"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


# served


def test_a_taken_port_is_one_line(answers, address):
    port = urllib.parse.urlsplit(address).port
    page = build_page(answers, examples=[], top=4)
    with pytest.raises(VSEError, match=rf"port={port}: cannot be listened at on 127.0.0.1 .*; choose another"):
        serve(page, api=partial(build_api, answers), host="127.0.0.1", port=port, open_browser=False)


def test_the_environment_cannot_have_more_served(answers, monkeypatch, capsys):
    page = build_page(answers, examples=[], top=4)
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/etc")
    with pytest.raises(VSEError, match="port=70000: cannot be listened at"):
        serve(page, api=partial(build_api, answers), host="127.0.0.1", port=70000, open_browser=False)
    assert "GRADIO_ALLOWED_PATHS is ignored" in capsys.readouterr().err
    assert page.allowed_paths == []


@pytest.mark.parametrize("headers", [{"Host": "rebound.example"}, {"Origin": "https://evil.example"}])
def test_other_sites_are_refused(headers, address):
    request = urllib.request.Request(address, headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    assert refused.value.code in (403, 421)
    refused.value.close()


def test_programs_are_answered_beside_the_page_and_guarded(address):
    def ask(place: str, **given: object) -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{address}api/{place}", **given)) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    assert ask("health")[1]["images"] == 6
    status, found = ask("search?query=a+heart&top=2&rerank=6")
    assert (status, len(found["hits"])) == (200, 2)
    status, refusal = ask("health", headers={"Host": "rebound.example"})
    assert (status, [*refusal]) == (421, ["error"])


def test_an_upload_of_no_stated_length_is_refused_before_it_is_sent(address):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc)
    with closing(connection):
        connection.putrequest("POST", "/api/similar")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        refusal = connection.getresponse()
        assert (refusal.status, [*json.load(refusal)]) == (411, ["error"])


@pytest.mark.parametrize("place", ["pictures/0.png", "index/index.json", "/etc/passwd", "pictures/../../../etc/passwd"])
def test_no_file_is_handed_out(place, address, home):
    path = urllib.parse.quote(str(home / place))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}gradio_api/file={path}")  # noqa: S310
    assert refused.value.code == 403
    refused.value.close()


@pytest.fixture
def wait_for(browser):
    """The elements of a CSS selector, once there are any."""
    return lambda style: WebDriverWait(browser, PATIENCE).until(
        lambda browser: browser.find_elements(By.CSS_SELECTOR, style)
    )


def text_of(browser: webdriver.Chrome, style: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).textContent", style)


def test_a_browser_finds_pictures_and_shows_html_as_text(address, browser, wait_for):
    browser.get(address)
    [box] = wait_for("#text textarea, #text input")
    box.send_keys("a red circle", Keys.ENTER)
    pictures = wait_for("#results .pictures img:not([data-map])")
    assert len(pictures) == 4
    assert all(browser.execute_script("return arguments[0].naturalWidth", picture) > 0 for picture in pictures)
    assert "How the query's 5 items were pooled" in text_of(browser, "#curve figcaption")
    assert text_of(browser, "#curve .frame").split()[-1] == "12345"  # the ranks
    [red] = [word for word in wait_for("#results [data-word]") if word.text == "red"]
    for chosen in (True, False):
        red.click()
        maps = browser.find_elements(By.CSS_SELECTOR, "#results .pictures [data-map]")
        shown = [one.get_attribute("data-map") for one in maps if one.is_displayed()]
        assert shown == (["1"] * 4 if chosen else [])
        assert red.get_attribute("aria-pressed") == str(chosen).lower()
    browser.find_element(By.CSS_SELECTOR, "#results [data-row]").click()
    captions = [element.text for element in wait_for("#results .captions li")]
    assert any("<b>a heart</b> ${1+1}" in caption for caption in captions)
    wait_for("#more button, button#more")[0].click()
    WebDriverWait(browser, PATIENCE).until(
        lambda browser: len(browser.find_elements(By.CSS_SELECTOR, "#results .pictures li")) == 5
    )
    assert HOSTILE in text_of(browser, "#results")
    assert browser.find_elements(By.CSS_SELECTOR, "#results [onerror], #results .captions b") == []
    box.clear()
    box.send_keys(" ", Keys.ENTER)
    WebDriverWait(browser, PATIENCE).until(lambda browser: "nothing to look for" in text_of(browser, "#results"))
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert [url for url in requests if not url.startswith((address, "data:", "blob:", "chrome"))] == []


DROP = """
const parts = await fetch("data:image/png;base64," + arguments[0]);
const dropped = new DataTransfer();
dropped.items.add(new File([await parts.blob()], "<i>mine.png", {type: "image/png"}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
"""


def test_on_a_phone_a_dropped_image_is_searched_and_results_are_viewed_by_keys(address, browser, wait_for, home):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    wait_for("dialog")  # the page's script has run
    browser.execute_script(DROP, base64.b64encode((home / "pictures" / "3.png").read_bytes()).decode())
    wait_for("#results .pictures li")
    assert "mine.png" in text_of(browser, "#results")
    assert browser.find_elements(By.CSS_SELECTOR, "#results i") == []
    pictures = browser.find_elements(By.CSS_SELECTOR, "#results [data-view]")
    names = [picture.accessible_name.removeprefix("View ") for picture in pictures]
    assert names[0] == "3.png"
    results, examples = (browser.find_element(By.CSS_SELECTOR, style) for style in ("#results", "#examples"))
    assert results.rect["y"] < examples.rect["y"]
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    pictures[0].click()
    wait_for("dialog[open]")
    assert text_of(browser, "dialog h2") == names[0]
    for key, shown in ((Keys.ARROW_RIGHT, names[1]), (Keys.ARROW_RIGHT, names[2]), (Keys.ARROW_LEFT, names[1])):
        webdriver.ActionChains(browser).send_keys(key).perform()
        WebDriverWait(browser, PATIENCE).until(lambda browser, shown=shown: text_of(browser, "dialog h2") == shown)
    assert "40 × 30 pixels" in text_of(browser, "dialog")
    assert str(home) not in text_of(browser, "dialog")
    webdriver.ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert browser.find_elements(By.CSS_SELECTOR, "dialog[open]") == []
    assert browser.switch_to.active_element == pictures[0]
    assert len(browser.find_elements(By.CSS_SELECTOR, "#results .pictures li")) == 4
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    WebDriverWait(browser, PATIENCE).until(
        lambda browser: len(browser.find_elements(By.CSS_SELECTOR, "#results .pictures li")) == 6
    )
