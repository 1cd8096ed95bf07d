"""The page as a browser shows it: no overflow on a phone and on a wide screen, and every picture is there."""

import re
import shutil
import subprocess

import pytest

from tests.report.test_html import page_of, runs

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
WIDTHS = (400, 1400)

# A page without a policy of its own that holds the report in frames of these widths and writes down what it measures.
FRAMES = """<!DOCTYPE html><body style="margin:0">{frames}<pre id="found"></pre><script>
onload = () => {{
  const told = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const pictures = [...page.images];
    const missing = pictures.filter((one) => !(one.complete && one.naturalWidth > 0)).length;
    return `width=${{root.clientWidth}} needs=${{root.scrollWidth}} pictures=${{pictures.length}} missing=${{missing}}`;
  }});
  document.getElementById("found").textContent = told.join("\\n");
}};
</script></body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")


def in_browser(page, *words):
    """What the browser writes about a page of the file system."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    flags.append(f"--user-data-dir={page.parent / 'profile'}")
    command = [BROWSER, *flags, *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    long = "a_scheduler_of_a_very_long_name_indeed(learning.start_slots=200,train.episodes=100)"
    page_of(runs(folder / "runs", names=("eft", "local", long), loads=(0.3, 0.6)), folder / "out")
    return folder / "out"


def test_the_page_fits_its_window_and_shows_every_picture(out):
    sizes = "".join(f'<iframe src="index.html" width="{w}" height="900" style="border:0"></iframe>' for w in WIDTHS)
    (out / "frames.html").write_text(FRAMES.format(frames=sizes))
    told = in_browser(out / "frames.html", "--virtual-time-budget=20000", "--dump-dom")
    found = [tuple(map(int, one)) for one in re.findall(r"width=(\d+) needs=(\d+) pictures=(\d+) missing=(\d+)", told)]
    assert [width for width, *_ in found] == list(WIDTHS)
    for width, needs, pictures, missing in found:
        assert needs <= width
        assert pictures >= 5
        assert missing == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_screenshot_shows_something(out, width):
    shot = out / f"{width}.png"
    in_browser(out / "index.html", f"--window-size={width},1200", f"--screenshot={shot}")
    assert shot.stat().st_size > 20_000  # an empty page has a few hundred bytes
