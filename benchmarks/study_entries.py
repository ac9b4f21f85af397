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
    like: Entry whose gin files, bindings and initial entry precede this one's.
  """

  name: str
  gin_files: Sequence[str]
  bindings: Sequence[str]
  seeds: Sequence[int]
  budget: Optional[float]
  initial_entry: Optional[str] = None
  controls: bool = False
  like: Optional[str] = None


@gin.configurable(module='benchmarks')
def study(
    entries: Sequence[Mapping[str, Any]] = gin.REQUIRED,
    *,
    variants: Sequence[Mapping[str, Any]] = (),
    seeds: Sequence[int] = (0,),
    common_gin_files: Sequence[str] = (),
    common_bindings: Sequence[str] = (),
    needs_controls: bool = True,
) -> List[Entry]:
  """Returns the entries of a study.

  Args:
    entries: Dicts with 'name' and optionally 'gin_files', 'bindings', 'seeds',
      'budget' (core-minutes per run), 'initial_entry', the name of an earlier
      entry, and 'controls', whether to measure the controls of its runs. With
      'like', the name of an earlier entry, an entry begins with that entry's
      gin files, bindings and initial entry, but not its seeds, budget and
      controls.
    variants: Further entries, for a gin file that includes another study.
    seeds: Seeds for entries without seeds.
    common_gin_files: Gin files read before those of each entry.
    common_bindings: Bindings applied before those of each entry.
    needs_controls: Whether a study without controls is an error. False is for
      studies whose entries clone nothing.

  Raises:
    ValueError: If a field is unknown, missing or out of range, two entries
      have the same name, `like` or `initial_entry` is no earlier entry, or the
      latter lacks a seed. The message names entry and field.
    ValueError: If no entry has controls, but the study needs some.
  """
  found = {}
  for where, fields in (
      *((f'`entries[{i}]`', fields) for i, fields in enumerate(entries)),
      *((f'`variants[{i}]`', fields) for i, fields in enumerate(variants)),
  ):
    entry = _make_entry(where, {'seeds': seeds, **fields})
    if entry.name in found:
      raise ValueError(f'{where}: an earlier entry is named {entry.name!r}.')
    if entry.like is None:
      entry = entry._replace(
          gin_files=(*common_gin_files, *entry.gin_files),
          bindings=(*common_bindings, *entry.bindings),
      )
    else:
      entry = _add_to(where, _earlier(where, 'like', entry.like, found), entry)
    _check_initial_entry(where, entry, found)
    if not entry.gin_files:
      raise ValueError(f'{where}: `gin_files` must name a file.')
    found[entry.name] = entry
  if needs_controls and not any(x.controls for x in found.values()):
    raise ValueError(
        "One of `study.entries` must have `'controls': True`, because a gain"
        ' counts only beside its controls; or bind `study.needs_controls ='
        ' False`.'
    )
  return list(found.values())


def choose(entries: Sequence[Entry], names: Sequence[str]) -> List[Entry]:
  """Returns the entries with these names, or in folders with these names.

  Raises:
    ValueError: If a name matches no entry.
  """
  chosen = set()
  for name in names:
    matches = {x.name for x in entries if f'{x.name}/'.startswith(f'{name}/')}
    if not matches:
      known = [x.name for x in entries]
      raise ValueError(f'{name!r} is none of {known}.')
    chosen |= matches
  return [x for x in entries if x.name in chosen]


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
      fields.get('like'),
  )


def _add_to(where: str, earlier: Entry, entry: Entry) -> Entry:
  if entry.initial_entry not in (None, earlier.initial_entry):
    raise ValueError(
        f'{where}: `initial_entry` must be that of {earlier.name!r}, '
        f'{earlier.initial_entry!r}, got {entry.initial_entry!r}.'
    )
  return entry._replace(
      gin_files=(*earlier.gin_files, *entry.gin_files),
      bindings=(*earlier.bindings, *entry.bindings),
      initial_entry=earlier.initial_entry,
  )


def _earlier(
    where: str, field: str, name: str, earlier: Mapping[str, Entry]
) -> Entry:
  if name not in earlier:
    raise ValueError(
        f'{where}: `{field}` must be one of the entries before it, '
        f'{list(earlier)}, got {name!r}.'
    )
  return earlier[name]


def _check_initial_entry(
    where: str, entry: Entry, earlier: Mapping[str, Entry]
) -> None:
  initial_entry = entry.initial_entry
  if initial_entry is None:
    return
  initial = _earlier(where, 'initial_entry', initial_entry, earlier)
  missing = set(entry.seeds) - set(initial.seeds)
  if missing:
    raise ValueError(
        f'{where}: `seeds` must be among those of {initial_entry!r}, '
        f'{list(initial.seeds)}, got also {sorted(missing)}.'
    )
