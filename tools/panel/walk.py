"""The walk through the page. Whatever is not as promised ends it with a word."""

import sys
import time
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from plant import Plant, until

SECRET = "the recipe of the coating is 7 parts resin"
OPEN = "may the belt be cleaned during the shift?"


def check(holds, words):
    if not holds:
        raise SystemExit(f"FAILED: {words}")
    print(f"ok: {words}", flush=True)


class Window:
    """A page, and everything that it asked for or complained about."""

    def __init__(self, browser, plant, **more):
        self.context = browser.new_context(**more)
        self.page = self.context.new_page()
        self.foreign, self.complaints, self.bodies = [], [], []
        self.home = f"http://localhost:{plant.http}/"
        self.page.on("request", lambda it: self.foreign.append(it.url) if not it.url.startswith((self.home, "data:")) else None)
        self.page.on("console", lambda it: self.complaints.append(it.text) if it.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda it: self.complaints.append(str(it)))
        self.page.on("response", self.note)
        self.page.goto(self.home)
        self.page.get_by_text("Live", exact=True).wait_for()

    def note(self, response):
        if "/api/" in response.url:
            try:
                self.bodies.append(response.text())
            except Exception:  # it was gone with its page
                pass

    def clean(self, name):
        check(not self.foreign, f"{name}: nothing elsewhere was asked for {self.foreign}")
        check(not self.complaints, f"{name}: the console is silent {self.complaints}")

    def axe(self, name):
        found = Axe().run(self.page).response["violations"]
        told = [(it["id"], [node["html"] for node in it["nodes"]][:3]) for it in found]
        check(not found, f"{name}: axe finds nothing {told}")

    def wide(self):
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def questions(plant, count):
    for no in range(count):
        plant.ask(id=f"press7-{no:03}", task="triage", input=f"CNC-{no:02} spindle vibration {no / 3:.1f} mm/s rising", classification="internal")
        plant.reply(f"press7-{no:03}", 120)
        time.sleep(1)  # a curve takes its time
    plant.ask(id="coating-1", prompt=SECRET, classification="restricted", risk=95)
    plant.ask(id="belt-1", prompt=OPEN, classification="public", risk=90)
    plant.ask(id="belt-2", task="triage", input="belt 2 slips at start", classification="internal", risk=85)
    until("three items", lambda: plant.state()["status"]["pending"] == 3)


def live(window, plant):
    page = window.page
    check(page.locator("#level").inner_text() == "Well", f"it says that it is well: {page.locator('#reasons').inner_text()}")
    before = page.locator("#celsius").inner_text()
    until("a new temperature", lambda: page.locator("#celsius").inner_text() != before)
    plant.ask(id="live-1", task="triage", input="press 4 leaks oil", classification="internal")
    page.locator("#latest").get_by_text("live-1").wait_for(timeout=30000)
    check(True, "it is live: temperature and the last requests change without a reload")
    check(page.locator("#chart path.c-line").count() == 1, "the curve is drawn")
    check(page.locator("#chart path.c-limit").count() == 1, "the limit is drawn")
    sure = page.locator("#latest tr", has_text="live-1").locator("td").nth(5).inner_text()
    check(sure != "", f"the confidence is told: {sure}")


def with_keys(window, plant):
    """No mouse from here on: the page is reached by the key Tab, the inbox by its own keys."""
    page, keys = window.page, window.page.keyboard
    page.evaluate("document.body.focus()")
    keys.press("Tab")
    check(page.evaluate("document.activeElement.className") == "skip", "the first Tab offers the way to the inbox")
    keys.press("Enter")
    keys.press("Tab")
    check(page.evaluate("document.activeElement.id") == "reviewer", "the name is the next field")
    keys.type("anna")
    keys.press("Escape")
    for verdict, wanted in [("correct", "by hand: yes, with the guard closed"), ("reject", "nobody knows"), ("correct", None)]:
        keys.press("j")
        keys.press("Enter")
        page.locator("#sheet").wait_for(state="visible")
        title = page.locator("#h-sheet").inner_text()
        id = title.split(": ")[1]
        window.page.wait_for_function("document.activeElement.id === 'sheet'")
        yield title
        if verdict == "correct":
            keys.press("c")
            if page.locator("#entry-choice").is_visible():
                keys.press("ArrowDown")
            elif page.locator("#entry-text").is_visible():
                keys.press("Control+A")
                keys.type(wanted or "by hand: stop it")
            keys.press("Control+Enter") if page.locator("#entry-text").is_visible() else keys.press("Enter")
        else:
            keys.press("r")
            keys.type(wanted)
            keys.press("Control+Enter")
        page.locator("#sheet").wait_for(state="hidden")
        reply = plant.reply(id)
        answered = reply["status"] == ("answered" if verdict == "correct" else "refused")
        check(answered, f"{id}: {verdict} by keys alone gave {reply['status']}")
    page.locator("#items").get_by_text("Nothing waits for a person.").wait_for()


def main():
    program, pictures, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    pictures.mkdir(parents=True, exist_ok=True)
    with Plant(program) as plant, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        questions(plant, count)
        desk = Window(browser, plant, viewport={"width": 1366, "height": 900}, color_scheme="light")
        live(desk, plant)
        desk.axe("light")
        desk.page.screenshot(path=pictures / "panel-light.png")

        dark = Window(browser, plant, viewport={"width": 1366, "height": 900}, color_scheme="dark")
        dark.page.wait_for_timeout(3000)
        dark.axe("dark")
        dark.page.screenshot(path=pictures / "panel-dark.png")
        dark.clean("dark")
        dark.context.close()

        phone = Window(browser, plant, viewport={"width": 360, "height": 780}, device_scale_factor=2, is_mobile=True, has_touch=True)
        phone.page.wait_for_timeout(3000)
        check(phone.wide() <= 0, f"a phone's width is enough ({phone.wide()} too wide)")
        phone.axe("phone")
        phone.page.screenshot(path=pictures / "panel-phone.png")
        small = phone.page.evaluate("[...document.querySelectorAll('button, input')].filter((it) => it.offsetParent && it.getBoundingClientRect().height < 44).map((it) => it.outerHTML)")
        check(not small, f"whatever is touched is 44 pixels high {small}")
        phone.clean("phone")
        phone.context.close()

        far = Window(browser, plant, extra_http_headers={"X-Forwarded-For": "10.0.0.9"})
        far.page.locator("#items button").nth(1).wait_for()
        far.page.locator("#reviewer").fill("ben")
        shown = far.page.locator("#items button")
        check(shown.count() == 2, "who is elsewhere sees two of the three items")
        for place in range(2):
            shown.nth(place).click()
            far.page.locator("#sheet").wait_for(state="visible")
            far.page.wait_for_timeout(500)
            far.page.locator("#b-release").click()
            far.page.locator("#sheet").wait_for(state="hidden")
        everything = far.page.content() + "".join(far.bodies)
        check(OPEN in everything, "what is public was shown elsewhere")
        check(SECRET not in everything, "what is restricted never was")
        far.clean("elsewhere")
        far.context.close()

        seen = ""
        for turn, _ in enumerate(with_keys(desk, plant)):
            seen += desk.page.content()
            if turn == 0:
                desk.axe("review")
                desk.page.locator("#inbox").screenshot(path=pictures / "panel-review.png")
        check(SECRET in seen, "at the appliance the restricted question was shown")
        desk.clean("desk")
        desk.context.close()
        browser.close()
    print(f"pictures: {pictures}")


main()
