"""What people do with the console, in a real Chromium."""

from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from service.keys import add_key
from tests.console.conftest import Reader
from tests.service.running import Running, running, settings_for, wait_until

pytestmark = pytest.mark.slow
LEFT = [0.0, 0.0, -0.1, 0.0]


def test_decisions_are_seen_live_and_the_browser_has_nothing_to_complain_of(
    service: Running, reader: Reader
) -> None:
    reader.open(service.port)
    reader.wait_for_state("live")
    reader.wait_for_text("#tile-model", "nothing decided lately")
    assert service.act([LEFT] * 50).status_code == 200
    reader.wait_for_text("#tile-model", "100 %")
    reader.wait_for_text("#tile-latency", "within 10 ms")
    assert "training's maximum 20" in reader.text("#tile-q")
    assert "Training 200, heuristic 9.5" in reader.text("#tile-return")
    assert reader.page.locator("#tile-decisions canvas").count() == 1
    link = reader.page.locator("#line-drift a").get_attribute("href")
    assert link == "http://localhost:3000/d/dqn-health?var-policy=cartpole"
    assert reader.complaints == []


def test_an_observation_is_tried_by_hand_with_its_q_values(
    service: Running, reader: Reader
) -> None:
    reader.open(service.port)
    reader.wait_for_text("#observation-hint", "[4]")
    reader.page.fill("#observation", "[0, 0, -0.1, 0.4")
    reader.page.click("#try button")
    reader.wait_for_text("#answer", "not JSON")
    reader.page.fill("#observation", "[0, 0, -0.1]")
    reader.page.click("#try button")
    reader.wait_for_text("#answer .fault", "observations")
    reader.page.fill("#observation", "[0, 0, -0.1, -0.1]")
    reader.page.click("#try button")
    reader.wait_for_text("#answer", "0, left")
    # -3 * -0.1 - 1 * -0.1 + 0.02 and its opposite.
    assert "0.42" in reader.text("#answer tr[aria-current]")
    assert "-0.39" in reader.text("#answer tbody tr:last-child")


def test_an_observation_is_tried_with_actions_that_are_not_legal(
    masked: Running, reader: Reader
) -> None:
    reader.open(masked.port)
    reader.wait_for_text("#legal", "0, left")
    reader.page.fill("#observation", "[0, 0, -0.1, -0.1]")
    reader.page.click("#try button")
    reader.wait_for_text("#answer", "0, left")
    reader.page.get_by_label("0, left").uncheck()
    reader.page.click("#try button")
    reader.wait_for_text("#answer", "1, right")
    reader.page.get_by_label("1, right").uncheck()
    reader.page.click("#try button")
    reader.wait_for_text("#answer .fault", "legal")


def test_who_has_no_mask_is_not_asked_for_one(service: Running, reader: Reader) -> None:
    reader.open(service.port)
    reader.wait_for_text("#observation-hint", "[4]")
    assert not reader.page.is_visible("#mask")


def test_a_canary_is_started_paused_promoted_and_rolled_back_each_with_a_reason(
    service: Running, reader: Reader
) -> None:
    reader.open(service.port)
    reader.page.click("text=Start a canary of version 2")
    reader.wait_for_text("#change-prospect", "a person promotes")
    reader.page.keyboard.press("Escape")
    for verb, seen in (
        ("Start a canary of version 2", "Version 2 is on trial against 1 with 1 %"),
        ("Pause the trial", "paused"),
        ("Promote version 2", "Version 2 is stable"),
        ("Roll back to version 1", "Version 1 is stable"),
    ):
        reader.page.click(f"text={verb}")
        reader.page.keyboard.type(f"because: {verb}")
        reader.page.keyboard.press("Tab")
        reader.page.keyboard.press("Enter")
        reader.wait_for_text("#trial", seen)
        reader.wait_for_text("#ledger", f"because: {verb}")
        assert reader.text("#done") == f"{verb}: written to the ledger. 1 replica follows it."
    entries = service.client.get("/v1/policies/cartpole/ledger").json()["entries"]
    made = [entry["action"] for entry in entries if entry["why"].startswith("because")]
    assert made == ["canary", "pause", "promote", "rollback"]
    assert reader.complaints == []


def test_a_shadow_gets_the_share_that_was_entered(service: Running, reader: Reader) -> None:
    reader.open(service.port)
    reader.page.click("text=Shadow with version 3")
    reader.page.fill("#change-share", "0.25")
    reader.page.fill("#change-why", "to compare")
    reader.page.click("#change-send")
    reader.wait_for_text("#done", "written to the ledger")
    told = service.client.get("/v1/policies/cartpole/rollout").json()
    assert (told["shadow"], told["shadow_share"]) == (3, 0.25)


def test_what_the_ledger_says_is_text_whatever_it_holds(service: Running, reader: Reader) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    service.client.post("/v1/policies/cartpole/freeze", json={"why": hostile})
    reader.open(service.port)
    reader.wait_for_text("#ledger", hostile)
    assert reader.page.locator("#ledger img, #ledger script").count() == 0
    assert reader.complaints == []


def test_a_change_is_refused_where_stable_has_moved_since_it_was_asked_for(
    service: Running, data: Path, reader: Reader
) -> None:
    reader.open(service.port)
    reader.page.click("text=Start a canary of version 3")
    entry = Entry(action="promote", policy="cartpole", version=2, who="other", why="first")
    append_latest(FileLedger(data / "policies" / LEDGER_FILE), entry)
    reader.page.fill("#change-why", "to try")
    reader.page.click("#change-send")
    reader.wait_for_text("#change-fault", "expected_stable is 1")
    assert reader.page.locator("#change-dialog[open]").count() == 1


def test_without_a_reason_nothing_is_sent(service: Running, reader: Reader) -> None:
    reader.open(service.port)
    reader.page.click("text=Pin to the heuristic")
    reader.page.fill("#change-why", "   ")
    reader.page.click("#change-send")
    reader.wait_for_text("#change-fault", "Say why")
    reader.page.click("#change-cancel")
    assert service.client.get("/v1/policies/cartpole").json()["pinned"] is False


def test_a_lost_connection_is_said_and_found_again(service: Running, reader: Reader) -> None:
    reader.open(service.port)
    reader.wait_for_state("live")
    for connection in list(service.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)
    reader.wait_for_state("lost")
    assert "trying again" in reader.text("#connection")
    assert reader.page.locator("body.stale").count() == 1
    reader.wait_for_state("live")
    assert reader.page.locator("body.stale").count() == 0


def test_a_key_is_asked_for_kept_in_the_tab_and_asked_for_anew_when_it_expires(
    data: Path, tmp_path_factory: pytest.TempPathFactory, reader: Reader
) -> None:
    keys_file = tmp_path_factory.mktemp("keys") / "keys"
    key = add_key(keys_file, "operator", ["read", "act", "operate"])
    with running(settings_for(data, keys_file=keys_file)) as locked:
        reader.open(locked.port)
        reader.wait_for_text("#key-dialog[open]", "a key is needed")
        assert reader.text("#trial") == ""
        reader.page.fill("#key", key)
        reader.page.keyboard.press("Enter")
        reader.wait_for_state("live")
        reader.wait_for_text("#trial", "Version 1 is stable")
        kept = "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
        session, local, cookie = reader.page.evaluate(kept)
        assert key in session
        assert (local, cookie) == ([], "")
        reader.page.click("text=Pin to the heuristic")
        reader.page.keyboard.type("to see")
        reader.page.click("#change-send")
        reader.wait_for_text("#trial", "pinned")
        said = [each.who for each in locked.server.rollout.entries if each.action == "pin"]
        assert said == ["operator"]
        keys_file.write_text("", encoding="utf-8")
        reader.wait_for_text("#key-dialog[open]", "the key is not known")
        reader.wait_for_state("refused")
        reader.page.fill("#key", new_key(locked, keys_file, "read"))
        reader.page.keyboard.press("Enter")
        reader.wait_for_state("live")
        reader.page.click("text=Unpin")
        reader.page.keyboard.type("to see")
        reader.page.click("#change-send")
        reader.wait_for_text("#change-fault", "the key lacks the scope 'operate'")
        reader.page.click("text=Enter another key")
        reader.page.fill("#key", new_key(locked, keys_file, "read", "operate"))
        reader.page.keyboard.press("Enter")
        assert reader.page.input_value("#change-why") == "to see"
        reader.page.click("#change-send")
        reader.wait_for_text("#done", "Unpin: written to the ledger")


def new_key(service: Running, keys_file: Path, *scopes: str) -> str:
    """A key that the service already knows."""
    key = add_key(keys_file, "-".join(scopes), list(scopes))
    headers = {"authorization": f"Bearer {key}"}
    asked = partial(service.client.get, "/v1/policies", headers=headers)
    wait_until(lambda: asked().status_code == 200, "the new key is known")
    return key


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_cut_off_and_text_stands_out_in_both_schemes(
    service: Running, browser: Browser, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 800},
    )
    reader = Reader(context.new_page())
    reader.open(service.port)
    reader.wait_for_text("#trial", "Version 1 is stable")
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = reader.page.evaluate(CONTRASTS)
    assert len(ratios) == 6
    assert min(ratios.values()) >= 4.5, ratios
    context.close()


# WCAG 2.2's contrast ratio of each text colour on the card it stands on.
CONTRASTS = """() => {
  const light = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const part = (at) => {
      const c = parseInt(hex.slice(at, at + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5) + 0.05;
  };
  const ratio = (one, other) => Math.max(one, other) / Math.min(one, other);
  const names = ["--text", "--faint", "--accent", "--second", "--good", "--bad"];
  return Object.fromEntries(names.map((name) => [name, ratio(light(name), light("--card"))]));
}"""


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(
    service: Running, reader: Reader
) -> None:
    reader.open(service.port)
    reader.wait_for_text("#ledger", "promote version 1")
    unnamed = """() => [...document.querySelectorAll("button, input, select, textarea")]
      .filter((each) => each.checkVisibility() && !(each.labels?.length || each.textContent.trim()))
      .map((each) => each.outerHTML)"""
    assert reader.page.evaluate(unnamed) == []
    reached: set[str] = set()
    for _ in range(60):
        reader.page.keyboard.press("Tab")
        reached.add(
            reader.page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {"policy", "key-button", "observation", "ledger-all"} <= reached
    assert "Pin to the heuristic" in reached
    levels = reader.page.evaluate(
        "[...document.querySelectorAll('h1, h2')].map((each) => each.tagName)"
    )
    assert levels[0] == "H1"


def test_the_keyboard_stays_where_it_is_when_the_page_is_redrawn(
    service: Running, reader: Reader
) -> None:
    reader.open(service.port)
    reader.page.focus("[data-focus=freeze]")
    service.client.post("/v1/policies/cartpole/pin", json={"why": "elsewhere"})
    reader.wait_for_text("#ledger", "elsewhere")
    assert reader.page.evaluate("document.activeElement.textContent") == "Freeze"


def test_a_server_that_says_nothing_is_a_lost_connection(service: Running, reader: Reader) -> None:
    reader.page.route("**/v1/events", lambda _: None)
    reader.open(service.port)
    reader.wait_for_state("lost")
    reader.page.unroute("**/v1/events")
    reader.wait_for_state("live")


def test_a_page_that_is_left_no_longer_listens(service: Running, reader: Reader) -> None:
    reader.open(service.port)
    reader.wait_for_state("live")
    assert service.app.state.feed.listeners == 1
    reader.page.goto("about:blank")
    wait_until(lambda: service.app.state.feed.listeners == 0, "nobody listens")


def test_calls_are_read_and_sent_where_they_are_described(service: Running, reader: Reader) -> None:
    reader.page.goto(f"http://127.0.0.1:{service.port}/docs")
    reader.page.click("summary:has-text('POST /v1/actions')")
    call = reader.page.locator("details[open]")
    assert "observations (required)" in call.inner_text()
    call.locator("button").click()
    reader.wait_for_text("details[open] pre", '"source":"model"')
    assert call.locator("pre").inner_text().startswith("200\n")
    reader.page.click("summary:has-text('POST /v1/policies/{policy}/pin')")
    pin = reader.page.locator("details[open]").last
    pin.locator("input").fill("cartpole")
    pin.locator("textarea").fill('{"why": "to see"}')
    pin.locator("button").click()
    pin.locator("pre", has_text="200").wait_for()
    assert service.client.get("/v1/policies/cartpole").json()["source"] == "heuristic"
    assert reader.complaints == []
