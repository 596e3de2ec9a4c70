"""How the tests start Chromium and open the page."""

import shutil

from playwright.sync_api import Browser, Page, Playwright

from tests.support.deployment import Deployment

ARGUMENTS = [
    "--no-sandbox",  # tests of a container run as root
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this machine is there
]


#: the first one has no window, toolbar and extensions, and takes two thirds of the time
PROGRAMS = ("chromium-headless-shell", "chromium")


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium, which `make test` installs.

    Raises:
        RuntimeError: it is not there.
    """
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        raise RuntimeError("there is no chromium; scripts/install-test-servers installs it")
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def show(page: Page, served: Deployment) -> None:
    """Open the page of a deployment and wait until it has started."""
    page.goto(served.url)
    page.wait_for_selector("#app:not([hidden])")
