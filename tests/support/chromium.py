"""Chromium, headless: where it is, and driven by Selenium as a person would."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def find_browser() -> str:
    """Return the path of a browser; skip the test if there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on the path ({', '.join(BROWSERS)}); scripts/system_libraries.sh installs one")
    return found


@contextlib.contextmanager
def driven(folder: Path, width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Yield a browser with a screen of so many px and a profile of its own, which saves files to `folder`.

    The test is skipped if there is no browser, or no driver for it.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = find_browser()
    if (driver := shutil.which("chromedriver")) is None:
        pytest.skip("no chromedriver on the path; scripts/system_libraries.sh installs it")
    for option in (*OPTIONS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        yield browser
    finally:
        browser.quit()
