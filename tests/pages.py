"""The code blocks of the documentation's pages."""

import pathlib
import re
import shlex
from typing import Iterator, List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Block(NamedTuple):
  """A fenced block of a page.

  Attributes:
    page: Path of the page.
    line: Number of lines before the text of the block.
    language: Language of the block.
    text: Text of the block.
    file_name: File that the page tells the reader to save it as, or ''.
  """

  page: str
  line: int
  language: str
  text: str
  file_name: str


def blocks(page: str, language: str = '') -> Iterator[Block]:
  """Yields the blocks of a page, of one language or of all."""
  text = (ROOT / page).read_text(encoding='utf-8')
  for match in re.finditer(r'```(\w*)\n(.*?)```', text, re.DOTALL):
    if language in ('', match[1]):
      saved = re.search(r'as `([\w.]+)`:\s*\Z', text[:match.start()])
      line = text[:match.start(2)].count('\n')
      yield Block(page, line, match[1], match[2], saved[1] if saved else '')


def lines(page: str) -> Iterator[str]:
  """Yields the command lines of a page; a continued line is one."""
  for block in blocks(page, 'sh'):
    for line in block.text.replace('\\\n', ' ').splitlines():
      if shlex.split(line, comments=True):
        yield line


def commands(page: str) -> Iterator[List[str]]:
  """Yields the words of each command of a page."""
  for line in lines(page):
    words = shlex.split(line, comments=True)
    while words and '=' in words[0]:  # An environment variable.
      words = words[1:]
    if words:
      yield words


def save_files(page: str, folder: str) -> None:
  """Saves the files that a page tells the reader to save in a folder."""
  for block in blocks(page):
    if block.file_name:
      pathlib.Path(folder, block.file_name).write_text(
          block.text, encoding='utf-8'
      )
