"""The page in a real browser, on a tiny model and index, served from this process."""

import json
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
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
from vse_gpo.search.page import Handlers, build_page, curve_plot, serve

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


# handlers


def test_an_error_is_one_line_on_the_page(answers):
    handlers = Handlers(answers)
    for shown in (handlers.by_text(3, " "), handlers.again(3, "", None)):
        assert "nothing to look for" in shown.results
        assert "<li>" not in shown.results
        assert shown.asked is None


def test_another_number_asks_the_same_again(answers, home):
    handlers = Handlers(answers)
    found = handlers.by_picture(2, str(home / "pictures" / "2.png"))
    assert found.results.count('data-row="') == 2
    assert handlers.again(5, found.text, found.asked).results.count('data-row="') == 5
    assert handlers.again(5, "a heart", None).results.count('data-row="') == 5
    assert handlers.by_example(3, ["a heart"]).text == "a heart"


def test_a_pooling_without_coefficients_has_no_plot():
    assert curve_plot([]).visible is False
    assert curve_plot([0.5, 0.5]).visible is True


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
    status, refusal = ask("similar", data=iter([b"x"]))  # no length
    assert (status, [*refusal]) == (411, ["error"])


@pytest.mark.parametrize("place", ["pictures/0.png", "index/index.json", "/etc/passwd", "pictures/../../../etc/passwd"])
def test_no_file_is_handed_out(place, address, home):
    path = urllib.parse.quote(str(home / place))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}gradio_api/file={path}")  # noqa: S310
    assert refused.value.code == 403
    refused.value.close()


def test_a_browser_finds_pictures_and_shows_html_as_text(address, browser):
    def wait_for(style: str) -> list[webdriver.remote.webelement.WebElement]:
        return WebDriverWait(browser, PATIENCE).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, style))

    browser.get(address)
    [box] = wait_for("#text textarea, #text input")
    box.send_keys("a red circle", Keys.ENTER)
    pictures = wait_for("#results .pictures img:not([data-map])")
    assert len(pictures) == 4
    assert all(browser.execute_script("return arguments[0].naturalWidth", picture) > 0 for picture in pictures)
    [red] = [word for word in wait_for("#results [data-word]") if word.text == "red"]
    for chosen in (True, False):
        red.click()
        maps = browser.find_elements(By.CSS_SELECTOR, "#results .pictures [data-map]")
        shown = [one.get_attribute("data-map") for one in maps if one.is_displayed()]
        assert shown == (["1"] * 4 if chosen else [])
        assert red.get_attribute("aria-pressed") == str(chosen).lower()
    pictures[0].click()
    captions = [element.text for element in wait_for("#results .captions li")]
    assert any("<b>a heart</b> ${1+1}" in caption for caption in captions)
    files = browser.find_element(By.CSS_SELECTOR, "#results").get_attribute("textContent")
    assert HOSTILE in files
    assert browser.find_elements(By.CSS_SELECTOR, "#results [onerror], #results .captions b") == []
    box.clear()
    box.send_keys(" ", Keys.ENTER)
    WebDriverWait(browser, PATIENCE).until(
        lambda browser: "nothing to look for" in browser.find_element(By.CSS_SELECTOR, "#results").text
    )
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert [url for url in requests if not url.startswith((address, "data:", "blob:", "chrome"))] == []
