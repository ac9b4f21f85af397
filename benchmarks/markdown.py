"""Lines of Markdown tables, and rows of CSV files."""

import csv
import pathlib
from typing import List, Mapping, Sequence

Row = Mapping[str, str]


def head(*cells: str) -> List[str]:
  """Returns the two lines of a table's head."""
  return [line(*cells), line(*['---'] * len(cells)).replace(' ', '')]


def line(*cells: str) -> str:
  """Returns a line of a table."""
  return f'| {" | ".join(cells)} |'


def listed(words: Sequence[str]) -> str:
  """Returns at least two words as an enumeration."""
  return f'{", ".join(words[:-1])} and {words[-1]}'


def read_rows(path: pathlib.Path) -> List[Row]:
  """Returns the rows of a CSV file."""
  with open(path, encoding='utf-8') as file:
    return list(csv.DictReader(file))
