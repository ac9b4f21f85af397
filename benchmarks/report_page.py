r"""Opens the page of a report in a browser and writes a screenshot of it.

  python -m benchmarks.report_page --runs benchmarks/results/cube_play \
    --output report --screenshot report.png

Writes the report like `parl-report`, opens its `index.html` in headless
Chromium, and prints the images and links of the page that the browser could not
open. The exit status is 1 if there are any. Needs Chromium (Debian: the package
`chromium`).
"""

import html.parser
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import List, Sequence
import urllib.parse

from absl import app
from absl import flags

from parl_tf.binaries import report_files

_RUNS = flags.DEFINE_multi_string(
    'runs', None, 'Run directory, or a folder with runs.', required=True
)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Directory of the report.', required=True
)
_BASELINE = flags.DEFINE_string(
    'baseline', None, 'Method to compare the others with; all pairs if absent.'
)
_SCREENSHOT = flags.DEFINE_string(
    'screenshot', 'report.png', 'PNG file to write.'
)
_WIDTH = flags.DEFINE_integer('width', 1280, 'Width of the window in pixels.')
_HEIGHT = flags.DEFINE_integer('height', 4000, 'Height of the window.')

_BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
_SECONDS = 120


class _Targets(html.parser.HTMLParser):
  """Collects the relative addresses of a page."""

  def __init__(self):
    super().__init__()
    self.addresses: List[str] = []

  def handle_starttag(self, tag, attrs):
    for name, value in attrs:
      if name in ('href', 'src') and '://' not in value:
        self.addresses.append(value)


def find_browser() -> str:
  """Returns the path of Chromium.

  Raises:
    FileNotFoundError: If it is not installed.
  """
  for name in _BROWSERS:
    if path := shutil.which(name):
      return path
  raise FileNotFoundError(f'Must have one of {_BROWSERS} in PATH, got none.')


def take_screenshot(page: str, path: str, width: int, height: int) -> str:
  """Opens a page, writes a screenshot and returns the page as it was rendered.

  Args:
    page: HTML file.
    path: PNG file to write.
    width: Width of the window in pixels.
    height: Height of the window in pixels.
  """
  with tempfile.TemporaryDirectory() as profile:
    command = [
        find_browser(),
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--hide-scrollbars',
        f'--user-data-dir={profile}',
        f'--window-size={width},{height}',
    ]
    address = pathlib.Path(page).resolve().as_uri()

    def browse(*options):
      return subprocess.run(
          [*command, *options, address],
          check=True,
          capture_output=True,
          text=True,
          timeout=_SECONDS,
      ).stdout

    browse(f'--screenshot={os.path.abspath(path)}')
    return browse('--dump-dom')


def missing_files(page: str, text: str) -> List[str]:
  """Returns the relative addresses of a page that lead to no file.

  Args:
    page: HTML file.
    text: Its contents.
  """
  targets = _Targets()
  targets.feed(text)
  folder = os.path.dirname(page)
  return [
      x
      for x in dict.fromkeys(targets.addresses)
      if not os.path.exists(os.path.join(folder, urllib.parse.unquote(x)))
  ]


def main(unused_argv: Sequence[str]) -> None:
  """Runs the command."""
  content = report_files.write_report(
      _RUNS.value, _OUTPUT.value, baseline=_BASELINE.value
  )
  print(report_files.describe(content, _OUTPUT.value))
  page = os.path.join(_OUTPUT.value, 'index.html')
  text = take_screenshot(page, _SCREENSHOT.value, _WIDTH.value, _HEIGHT.value)
  print(f'Screenshot: {_SCREENSHOT.value}')
  if missing := missing_files(page, text):
    print('\n'.join(f'Missing: {x}' for x in missing))
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
