"""Prints the reference of the programs, made from their `--help`.

  python docs/commands.py

`docs/commands.md` is the page's introduction.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
from typing import Dict

ROOT = pathlib.Path(__file__).resolve().parents[1]


def programs() -> Dict[str, str]:
  """Returns the module of each program in setup.py, by the program's name."""
  text = (ROOT / 'setup.py').read_text(encoding='utf-8')
  return dict(re.findall(r"'(parl-[\w-]+) = ([\w.]+):run'", text))


def page() -> str:
  """Returns the reference as Markdown.

  Raises:
    subprocess.CalledProcessError: If a program fails.
  """
  found = programs()
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    texts = list(pool.map(_help, found.values()))
  lines = []
  for name, text in zip(found, texts, strict=True):
    lines += [f'## {name}', '', '```text', text.strip(), '```', '']
  return '\n'.join(lines)


def _help(module: str) -> str:
  return subprocess.run(
      [sys.executable, '-m', module, '--help'],
      cwd=ROOT,
      check=True,
      stdout=subprocess.PIPE,
      text=True,
  ).stdout


if __name__ == '__main__':
  print(page())  # noqa: T201
