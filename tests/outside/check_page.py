"""The page of a pack in headless Chromium: no message on the console, no request
beyond the page itself, every link leads somewhere, nothing is wider than a
phone, and print and dark have their own look.

    check_page.py PACK [PICTURES]

PICTURES is a directory for pictures of it: desktop, phone, dark, print.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from found import Findings


class Browser:
    """Chromium, spoken to over two pipes."""

    def __init__(self, profile):
        name = next(filter(shutil.which, ["chromium", "chromium-browser", "google-chrome"]), None)
        if name is None:
            sys.exit("page: chromium is not installed")
        to_read, self.write_end = os.pipe()
        self.read_end, to_write = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"]
        flags += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, name, *flags],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.events, self.session = 0, b"", [], None

    def message(self):
        while b"\0" not in self.rest:
            piece = os.read(self.read_end, 1 << 16)
            if not piece:
                sys.exit("page: the browser ended")
            self.rest += piece
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, **params):
        self.number += 1
        wanted = self.number
        request = {"id": wanted, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write_end, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == wanted:
                if "error" in answer:
                    sys.exit(f"page: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message())

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def end(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=30)


def main():
    page = pathlib.Path(sys.argv[1]).resolve() / "reports" / "report.html"
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    findings = Findings("page")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            browser.call(f"{domain}.enable")
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait("Page.loadEventFired")
        look(browser, page, findings, pictures)
        for event in browser.events:
            method, params = event.get("method", ""), event.get("params", {})
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                good = url in (page.as_uri(), "about:blank") or url.startswith("data:")
                findings.expect(good, "report.html", f"asks for {url}")
            bad = method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
            findings.expect(not bad, "report.html", f"says on the console: {params}")
        browser.end()
    findings.end()


def look(browser, page, findings, pictures):
    def picture(name):
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            (pictures / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    for name, width in [("desktop", 1280), ("tablet", 768), ("phone", 390), ("small phone", 320)]:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 700
        )
        wide = browser.value("document.documentElement.scrollWidth")
        findings.expect(wide <= width, "report.html", f"is {wide} pixels wide on a {name} of {width}")
        small = browser.value(
            "[...document.querySelectorAll('p,td,li,h4')]"
            ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length"
        )
        findings.expect(small == 0, "report.html", f"has {small} texts below 12 pixels on a {name}")
        if name in ("desktop", "phone"):
            picture(name)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.value(ground)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", features=dark)
    findings.expect(browser.value(ground) != light, "report.html", "looks the same in the dark")
    picture("dark")
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    shown = browser.value("getComputedStyle(document.querySelector('nav')).display")
    findings.expect(shown == "none", "report.html", "prints its navigation")
    if pictures:
        printed = browser.call("Page.printToPDF", printBackground=False)
        (pictures / "print.pdf").write_bytes(base64.b64decode(printed["data"]))
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    links = browser.value("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    findings.expect(len(links) > 20, "report.html", f"has {len(links)} links only")
    for link in links:
        if link.startswith("#"):
            there = browser.value(f"document.getElementById({json.dumps(link[1:])}) !== null")
        else:
            there = (page.parent / link).resolve().is_file()
        findings.expect(there, "report.html", f"the link {link} leads nowhere")


main()
