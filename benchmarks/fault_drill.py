"""Injects faults into every part of a distributed run and checks recovery.

  python -m benchmarks.fault_drill --root_dir runs/drill

Kills a collector, the learner and the replay service with SIGKILL, freezes a
collector and the service, denies disk space for checkpoints, truncates a
checkpoint and the last record of the log, and cuts the link between a collector
and the service. The run with faults is in the subdirectory `faulty`, next to
undisturbed runs. Prints one row per fault, then the final accounts and
scores. Rerun the same command to resume: `faults.jsonl` lists the faults that
are done. Exits with 1 if an episode is duplicated or was lost without a
collector being killed, or if the training ratio is off by more than an episode.

Columns, in which steps are environment steps:
  recovery  seconds from the end of the fault (restart of the killed role, or
            repair of the link) to the first new online training step
  acts      seconds from the end of the fault to the collector's next episode
  lost      total episodes that the environment finished but nothing stores
  doubled   total duplicate episodes of the log or extra steps of the table
  ratio     training steps minus those required by the episodes trained on
"""

import json
import os
import random
import re
import signal
import time
from typing import Callable, List, NamedTuple, Optional

from absl import app
from absl import flags
from absl import logging

from benchmarks import drill_run
from tests.binaries import tiny

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the runs.', required=True
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', ['quickstart.gin'], 'gin files of the experiment.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', ['Online.num_episodes = 400'], 'Changes to the experiment.'
)
_DOMAIN = flags.DEFINE_string(
    'domain', 'PointMaze', 'Domain bound by the gin files; its episodes count.'
)
_TINY = flags.DEFINE_bool('tiny', False, 'Whether to use test sizes.')
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the runs and the fault order.')
_NUM_COLLECTORS = flags.DEFINE_integer('num_collectors', 2, 'Collectors.')
_NUM_KILLS = flags.DEFINE_integer('num_kills', 5, 'Kills of each role.')
_NUM_UNDISTURBED = flags.DEFINE_integer(
    'num_undisturbed', 1, 'Undisturbed runs, with seeds starting at `seed`.'
)
_FREEZE_SECONDS = flags.DEFINE_float(
    'freeze_seconds', 20.0, 'Duration of freezes and cuts.'
)
_FAULTS = flags.DEFINE_multi_string('fault', None, 'Inject only these faults.')

_TURNS_BETWEEN = 2  # Online episodes trained on between faults.
_SETTLE_READINGS = 30
_TINY_BINDINGS = (
    'Online.num_episodes = 600',
    'Online.evaluation_interval = 1_000',
    'run_experiment.checkpoint_seconds = 1.0',
    # Makes checkpoints larger than the other files, for `no_room`.
    'CriticEnsemble.hidden_sizes = (128, 128)',
)
_DATA = '.data-00000-of-00001'
_REPEATED = re.compile(r'([\d.]+) s of work, are repeated')


class Fault(NamedTuple):
  """A fault: its name, the collector it affects, and a function to cause it."""

  name: str
  collector: Optional[int]
  cause: Callable[[drill_run.Run], str]


def killed(role: str, damage: Optional[Callable] = None):
  """Returns a function that kills a role, does damage and restarts the role."""

  def cause(run):
    run.signal(role, signal.SIGKILL)
    note = damage(run) if damage else ''
    run.start(role)
    return note

  return cause


def frozen(role: str):
  """Returns a function that freezes a role for a while."""

  def cause(run):
    run.signal(role, signal.SIGSTOP)
    time.sleep(_FREEZE_SECONDS.value)
    run.signal(role, signal.SIGCONT)
    return ''

  return cause


def frozen_service(run: drill_run.Run) -> str:
  """Freezes the service until all other roles report that they wait for it."""
  others = ['learner', *run.collectors]
  before = {name: run.text(name).count('Waiting for') for name in others}
  run.signal('service', signal.SIGSTOP)
  seconds = run.wait(
      'all roles report that they wait for the frozen service',
      lambda: all(
          run.text(name).count('Waiting for') > before[name] for name in others
      ),
  )
  time.sleep(max(0.0, _FREEZE_SECONDS.value - seconds))
  run.signal('service', signal.SIGCONT)
  return f'all reported "Waiting" after {seconds:.1f} s'


def cut(run: drill_run.Run) -> str:
  """Cuts the link of `collector_0` for a while."""
  run.cut_link.cut()
  time.sleep(_FREEZE_SECONDS.value)
  run.cut_link.restore()
  return ''


def no_room(run: drill_run.Run) -> str:
  """Limits the learner's file size until it reports a failed checkpoint."""
  limit = os.path.getsize(_newest_checkpoint(run) + _DATA) // 2
  folder = os.path.join(run.root_dir, 'learner')
  others = [os.path.join(folder, 'metrics.csv')]
  events = os.path.join(folder, 'tensorboard')
  others += [os.path.join(events, name) for name in os.listdir(events)]
  largest = max(map(os.path.getsize, others))
  if 2 * largest > limit:
    raise ValueError(
        f'Half a checkpoint, {limit} bytes, must be at least twice as large as'
        f' the other files of the learner, got {largest} bytes of {others}.'
    )

  def num_told():
    return run.text('learner').count('Cannot write a checkpoint')

  told_before = num_told()
  run.limit_files('learner', limit)
  run.wait('a checkpoint fails to be written', lambda: num_told() > told_before)
  newest = _newest_checkpoint(run)
  run.limit_files('learner', None)
  run.wait(
      'there is another checkpoint', lambda: _newest_checkpoint(run) != newest
  )
  return f'{num_told() - told_before} failed'


def torn_checkpoint(run: drill_run.Run) -> str:
  """Truncates the learner's newest checkpoint."""
  path = _newest_checkpoint(run) + _DATA
  os.truncate(path, os.path.getsize(path) // 2)
  return f'{os.path.basename(path)} truncated'


def torn_record(run: drill_run.Run) -> str:
  """Truncates the last file of the log."""
  path = os.path.join(run.root_dir, 'episodes', run.log_names()[-1])
  os.truncate(path, os.path.getsize(path) // 2)
  return f'{os.path.basename(path)} truncated'


def _newest_checkpoint(run) -> str:
  folder = os.path.join(run.root_dir, 'learner', 'checkpoints')
  numbers = [
      int(name[len('ckpt-') : -len('.index')])
      for name in os.listdir(folder)
      if name.endswith('.index')
  ]
  return os.path.join(folder, f'ckpt-{max(numbers)}')


def make_faults(num_collectors: int) -> List[Fault]:
  """Returns all faults, in an order drawn from the seed."""
  draw = random.Random(_SEED.value)
  faults = []
  for i in range(_NUM_KILLS.value):
    hit = draw.randrange(num_collectors)
    faults += [
        Fault(f'kill_collector_{i}', hit, killed(f'collector_{hit}')),
        Fault(f'kill_learner_{i}', None, killed('learner')),
        Fault(f'kill_service_{i}', None, killed('service')),
    ]
  faults += [
      Fault('frozen_collector', 0, frozen('collector_0')),
      Fault('frozen_service', None, frozen_service),
      Fault('no_room', None, no_room),
      Fault('torn_checkpoint', None, killed('learner', torn_checkpoint)),
      Fault('torn_record', None, killed('service', torn_record)),
      Fault('cut_link', 0, cut),
  ]
  draw.shuffle(faults)
  wanted = _FAULTS.value
  return [x for x in faults if not wanted or x.name in wanted]


def suffer(run: drill_run.Run, fault: Fault) -> dict:
  """Injects a fault and waits for recovery; returns a row of the table."""
  num_rows = len(run.online_rows())
  run.wait(
      'enough turns have passed since the last fault',
      lambda: len(run.online_rows()) >= num_rows + _TURNS_BETWEEN,
  )
  if run.is_over('learner'):
    raise ValueError(
        f'The run ended before fault {fault.name}; increase'
        '`Online.num_episodes`.'
    )
  logging.info('%s.', fault.name)
  note = fault.cause(run)
  ended = time.monotonic()
  train_step = run.train_step()
  recovery = run.wait(
      'there is a new training step', lambda: run.train_step() > train_step
  )
  acts = None
  if fault.collector is not None:
    num_finished = run.num_finished(fault.collector)
    run.wait(
        'the collector has finished another episode',
        lambda: run.num_finished(fault.collector) > num_finished,
    )
    acts = time.monotonic() - ended
  return {
      'fault': fault.name,
      'recovery': recovery,
      'acts': acts,
      **settled(run),
      'note': note,
  }


def settled(run: drill_run.Run) -> dict:
  """Returns lost, doubled and ratio, not counting episodes in transit."""
  readings = []
  for _ in range(_SETTLE_READINGS):
    books = run.books()
    readings.append((
        books.num_lost,
        books.num_doubled
        + abs(books.num_table_steps - books.num_journal_steps),
        abs(books.ratio_error),
    ))
    time.sleep(0.1)
  # An episode that ends or is inserted at this moment appears in one account
  # but not yet in another.
  lost, doubled, ratio = map(min, zip(*readings))
  return dict(lost=lost, doubled=doubled, ratio=ratio, longest=books.longest)


def begin(name: str, seed: int) -> drill_run.Run:
  """Starts or resumes a run."""
  bindings = [
      'import benchmarks.counted_domain',
      'select_domain.domain = @counted_domain()',
      f'counted_domain.domain = @{_DOMAIN.value}()',
  ]
  bindings += (
      [*tiny.BINDINGS, *_TINY_BINDINGS] if _TINY.value else []
  )
  if not _TINY.value or _GIN_BINDINGS.present:
    bindings += _GIN_BINDINGS.value
  run = drill_run.Run(
      os.path.join(os.path.abspath(_ROOT_DIR.value), name),
      _GIN_FILE.value,
      bindings,
      seed=seed,
      num_collectors=_NUM_COLLECTORS.value,
  )
  for role in run.roles:
    run.start(role)
  return run


def finish(run: drill_run.Run) -> dict:
  """Waits for a run to end; returns its summary of the online phase."""
  for role in ('learner', *run.collectors):
    run.wait(f'{role} is over', lambda name=role: run.is_over(name))
  path = os.path.join(run.root_dir, 'learner', 'summary.json')
  with open(path, encoding='utf-8') as file:
    return json.load(file)['phases']['online']


def drill() -> bool:
  """Runs with faults to the end; returns whether the accounts are correct."""
  run = begin('faulty', _SEED.value)
  path = os.path.join(run.root_dir, 'faults.jsonl')
  rows = []
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      rows = [json.loads(line) for line in file]
  try:
    for fault in make_faults(_NUM_COLLECTORS.value):
      if fault.name in [row['fault'] for row in rows]:
        continue
      rows.append(suffer(run, fault))
      with open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(rows[-1]) + '\n')
      print(_line(rows[-1]), flush=True)
    score = finish(run)
    # The tables must match what a restart rebuilds from the log.
    run.signal('service', signal.SIGKILL)
    run.start('service')
    books = run.books()
  finally:
    run.stop()
  print('\nfault                recovery    acts  lost  doubled  ratio')
  for row in rows:
    print(_line(row))
  print(f'\n{books}')
  print(f'lost: {books.num_lost}; unexpected exits: {dict(run.num_deaths)}')
  repeated = [float(x) for x in _REPEATED.findall(run.text('learner'))]
  print(f'work repeated by the learner: at most {max(repeated, default=0)} s')
  print(f'score after faults: {_describe(score)}')
  num_kills = sum(row['fault'].startswith('kill_collector') for row in rows)
  return (
      books.num_lost <= num_kills
      and books.num_missing == 0
      and books.num_doubled == 0
      and books.num_table_steps == books.num_journal_steps
      and sum(books.acknowledged.values()) == books.num_logged
      and all(row['ratio'] <= row['longest'] for row in rows)
      and abs(books.ratio_error) <= books.longest
  )


def undisturbed(seed: int) -> dict:
  """Runs without faults; returns the summary of the online phase."""
  name = f'undisturbed_{seed}'
  run = begin(name, seed)
  try:
    return finish(run)
  finally:
    run.stop()


def main(argv) -> int:
  """Runs the drill."""
  del argv
  # Treated as an interrupt, which also stops the roles.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  is_right = drill()
  print(f'The accounts are {"correct" if is_right else "WRONG"}.', flush=True)
  for i in range(_NUM_UNDISTURBED.value):
    score = undisturbed(_SEED.value + i)
    print(f'score without faults: {_describe(score)}', flush=True)
  return 0 if is_right else 1


def _describe(score):
  return f'{score["score"]:.1f}, success rate {score["success_rate"]:.3f}'


def _line(row):
  acts = '-' if row['acts'] is None else f'{row["acts"]:.1f}'
  return (
      f'{row["fault"]:<20} {row["recovery"]:8.1f} {acts:>7} {row["lost"]:5d} '
      f'{row["doubled"]:8d} {row["ratio"]:6d}  {row["note"]}'
  )


if __name__ == '__main__':
  app.run(main)
