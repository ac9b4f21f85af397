"""Reads and validates the entries of a study file."""

import re
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

import gin

_NAME = re.compile(r'[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*')


class Entry(NamedTuple):
  """One method in one domain.

  Attributes:
    name: Directory of the runs, with slashes.
    gin_files: Gin files, merged in order.
    bindings: Gin bindings, applied last.
    seeds: Seeds, with one run each.
    budget: Core-minutes per run; None if the entry sets no limit.
    initial_entry: Entry whose runs of the same seeds are the `initial_run` of
      this entry's runs; None if they start from scratch.
    controls: Whether the study measures the controls of this entry's runs.
  """

  name: str
  gin_files: Sequence[str]
  bindings: Sequence[str]
  seeds: Sequence[int]
  budget: Optional[float]
  initial_entry: Optional[str] = None
  controls: bool = False


@gin.configurable(module='benchmarks')
def study(
    entries: Sequence[Mapping[str, Any]] = gin.REQUIRED,
    *,
    seeds: Sequence[int] = (0,),
    common_gin_files: Sequence[str] = (),
    common_bindings: Sequence[str] = (),
    needs_controls: bool = True,
) -> List[Entry]:
  """Returns the entries of a study.

  Args:
    entries: Dicts with 'name' and optionally 'gin_files', 'bindings', 'seeds',
      'budget' (core-minutes per run), 'initial_entry', the name of an earlier
      entry, and 'controls', whether to measure the controls of its runs.
    seeds: Seeds for entries without seeds.
    common_gin_files: Gin files read before those of each entry.
    common_bindings: Bindings applied before those of each entry.
    needs_controls: Whether a study without controls is an error. False is for
      studies whose entries clone nothing.

  Raises:
    ValueError: If a field is unknown, missing or out of range, two entries
      have the same name, or an entry's `initial_entry` is no earlier entry with
      its seeds. The message names entry and field.
    ValueError: If no entry has controls, but the study needs some.
  """
  found = {}
  for number, fields in enumerate(entries):
    entry = _make_entry(f'`entries[{number}]`', {'seeds': seeds, **fields})
    if entry.name in found:
      raise ValueError(f'`entries`: two entries are named {entry.name!r}.')
    entry = entry._replace(
        gin_files=(*common_gin_files, *entry.gin_files),
        bindings=(*common_bindings, *entry.bindings),
    )
    _check_initial_entry(f'`entries[{number}]`', entry, found)
    if not entry.gin_files:
      raise ValueError(f'`entries[{number}]`: `gin_files` must name a file.')
    found[entry.name] = entry
  if needs_controls and not any(x.controls for x in found.values()):
    raise ValueError(
        "One of `study.entries` must have `'controls': True`, because a gain"
        ' counts only beside its controls; or bind `study.needs_controls ='
        ' False`.'
    )
  return list(found.values())


def _make_entry(where: str, fields: Mapping[str, Any]) -> Entry:
  unknown = sorted(set(fields) - set(Entry._fields))
  if unknown:
    raise ValueError(
        f'{where} must only have fields {list(Entry._fields)}, got {unknown}.'
    )
  name = fields.get('name')
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    raise ValueError(f'{where}: `name` must be a path of names, got {name!r}.')
  for field in ('gin_files', 'bindings', 'seeds'):
    if not isinstance(fields.get(field, ()), (list, tuple)):
      raise ValueError(
          f'{where}: `{field}` must be a list, got {fields[field]!r}.'
      )
  seeds = fields['seeds']
  are_seeds = all(isinstance(seed, int) and seed >= 0 for seed in seeds)
  if not seeds or not are_seeds or len(set(seeds)) < len(seeds):
    raise ValueError(
        f'{where}: `seeds` must be distinct non-negative integers, got'
        f' {seeds!r}.'
    )
  budget = fields.get('budget')
  if budget is not None and not budget > 0:
    raise ValueError(f'{where}: `budget` must be positive, got {budget!r}.')
  return Entry(
      name,
      tuple(fields.get('gin_files', ())),
      tuple(fields.get('bindings', ())),
      tuple(seeds),
      budget,
      fields.get('initial_entry'),
      bool(fields.get('controls', False)),
  )


def _check_initial_entry(
    where: str, entry: Entry, earlier: Mapping[str, Entry]
) -> None:
  initial_entry = entry.initial_entry
  if initial_entry is None:
    return
  if initial_entry not in earlier:
    raise ValueError(
        f'{where}: `initial_entry` must be one of the entries before it, '
        f'{list(earlier)}, got {initial_entry!r}.'
    )
  missing = set(entry.seeds) - set(earlier[initial_entry].seeds)
  if missing:
    raise ValueError(
        f'{where}: `seeds` must be among those of {initial_entry!r}, '
        f'{list(earlier[initial_entry].seeds)}, got also {sorted(missing)}.'
    )
