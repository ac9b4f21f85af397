"""Breaks every part of a distributed run, and checks that it goes on.

  python -m benchmarks.fault_drill --root_dir runs/drill

Kills a collector, the learner and the replay service with SIGKILL, freezes a
collector and the service, leaves no room for checkpoints, tears a checkpoint
and the last record of the log, and cuts the link between a collector and the
service. A faulty run stands in `faulty` of the root directory, undisturbed ones
beside it. Prints a row a fault, then the books at the end and the final scores.
Run again with the same arguments, it goes on: faults that are done stand in
`faults.jsonl`. Exits with 1 where an episode was lost that nobody was killed
over, or doubled, or the ratio of training is more than an episode off.

Columns, of which steps are environment steps:
  recovery  seconds from the fault's end (the start of what was killed, the
            mending of what was cut) to the first new online training step
  acts      likewise to the collector's next finished episode
  lost      episodes that the environment finished and nothing has, in all
  doubled   episodes of the log, or steps of the table, too many, in all
  ratio     training steps less those that the episodes trained on call for
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
    'gin_bindings', ['Online.num_episodes = 400'], 'What of them is changed.'
)
_DOMAIN = flags.DEFINE_string(
    'domain', 'PointMaze', 'The domain that they bind, which is counted.'
)
_TINY = flags.DEFINE_bool('tiny', False, 'Uses the sizes of the tests.')
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of runs and of the order.')
_NUM_COLLECTORS = flags.DEFINE_integer('num_collectors', 2, 'Collectors.')
_NUM_KILLS = flags.DEFINE_integer('num_kills', 5, 'Of each role.')
_NUM_UNDISTURBED = flags.DEFINE_integer(
    'num_undisturbed', 1, 'Undisturbed runs, of seeds from `seed` on.'
)
_FREEZE_SECONDS = flags.DEFINE_float(
    'freeze_seconds', 20.0, 'How long something is frozen or cut.'
)
_FAULTS = flags.DEFINE_multi_string('fault', None, 'Only these faults.')

_TURNS_BETWEEN = 2  # online episodes trained on, before the next fault
_SETTLE_READINGS = 30
_TINY_BINDINGS = (
    'Online.num_episodes = 600',
    'Online.evaluation_interval = 1_000',
    'run_experiment.checkpoint_seconds = 1.0',
    # A checkpoint larger than the other files, for `no_room`.
    'CriticEnsemble.hidden_sizes = (128, 128)',
)
_DATA = '.data-00000-of-00001'
_REPEATED = re.compile(r'([\d.]+) s of work, are repeated')


class Fault(NamedTuple):
  """One fault: its name, the collector it hits, and what it does."""

  name: str
  collector: Optional[int]
  cause: Callable[[drill_run.Run], str]


def killed(role: str, damage: Optional[Callable] = None):
  """Returns what kills a role, does damage, and starts the role anew."""

  def cause(run):
    run.signal(role, signal.SIGKILL)
    note = damage(run) if damage else ''
    run.start(role)
    return note

  return cause


def frozen(role: str):
  """Returns what stops a role for a while."""

  def cause(run):
    run.signal(role, signal.SIGSTOP)
    time.sleep(_FREEZE_SECONDS.value)
    run.signal(role, signal.SIGCONT)
    return ''

  return cause


def frozen_service(run: drill_run.Run) -> str:
  """Stops the service until all others have said that they wait for it."""
  others = ['learner', *run.collectors]
  before = {name: run.text(name).count('Waiting for') for name in others}
  run.signal('service', signal.SIGSTOP)
  seconds = run.wait(
      'all say that they wait for the frozen service',
      lambda: all(
          run.text(name).count('Waiting for') > before[name] for name in others
      ),
  )
  time.sleep(max(0.0, _FREEZE_SECONDS.value - seconds))
  run.signal('service', signal.SIGCONT)
  return f'all said "Waiting" after {seconds:.1f} s'


def cut(run: drill_run.Run) -> str:
  """Cuts the link of `collector_0` for a while."""
  run.cut_link.cut()
  time.sleep(_FREEZE_SECONDS.value)
  run.cut_link.mend()
  return ''


def no_room(run: drill_run.Run) -> str:
  """Leaves the learner no room for a checkpoint, until it has said so."""
  limit = os.path.getsize(_newest_checkpoint(run) + _DATA) // 2
  folder = os.path.join(run.root_dir, 'learner')
  others = [os.path.join(folder, 'metrics.csv')]
  events = os.path.join(folder, 'tensorboard')
  others += [os.path.join(events, name) for name in os.listdir(events)]
  largest = max(map(os.path.getsize, others))
  if 2 * largest > limit:
    raise ValueError(
        f'Half a checkpoint, {limit} bytes, must be twice as large as the '
        f'other files of the learner, got {largest} bytes of {others}.'
    )

  def num_told():
    return run.text('learner').count('No checkpoint could be written')

  told_before = num_told()
  run.limit_files('learner', limit)
  run.wait('a checkpoint had no room', lambda: num_told() > told_before)
  newest = _newest_checkpoint(run)
  run.limit_files('learner', None)
  run.wait(
      'there is another checkpoint', lambda: _newest_checkpoint(run) != newest
  )
  return f'{num_told() - told_before} refused'


def torn_checkpoint(run: drill_run.Run) -> str:
  """Cuts the learner's newest checkpoint short."""
  path = _newest_checkpoint(run) + _DATA
  os.truncate(path, os.path.getsize(path) // 2)
  return f'{os.path.basename(path)} cut short'


def torn_record(run: drill_run.Run) -> str:
  """Cuts the last file of the log short."""
  path = os.path.join(run.root_dir, 'episodes', run.log_names()[-1])
  os.truncate(path, os.path.getsize(path) // 2)
  return f'{os.path.basename(path)} cut short'


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
  """Lets a run suffer a fault and recover; returns a row of the table."""
  num_rows = len(run.online_rows())
  run.wait(
      'there are turns between two faults',
      lambda: len(run.online_rows()) >= num_rows + _TURNS_BETWEEN,
  )
  if run.is_over('learner'):
    raise ValueError(
        f'The run must last until {fault.name}, but is over: raise '
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
  """Returns lost, doubled and ratio, as they are once nothing is on its way."""
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
  # An episode that ends, or is inserted, at the moment is in one book and not
  # yet in another.
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
  """Waits for a run's end; returns its summary of the online phase."""
  for role in ('learner', *run.collectors):
    run.wait(f'{role} is over', lambda name=role: run.is_over(name))
  path = os.path.join(run.root_dir, 'learner', 'summary.json')
  with open(path, encoding='utf-8') as file:
    return json.load(file)['phases']['online']


def drill() -> bool:
  """Runs the faulty run to its end; returns whether its books are right."""
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
    # What is in the tables is to be what a restart makes of the log.
    run.signal('service', signal.SIGKILL)
    run.start('service')
    books = run.books()
  finally:
    run.stop()
  print('\nfault                recovery    acts  lost  doubled  ratio')
  for row in rows:
    print(_line(row))
  print(f'\n{books}')
  print(f'lost: {books.num_lost}; died by themselves: {dict(run.num_deaths)}')
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
  """Runs once without faults; returns the summary of the online phase."""
  name = f'undisturbed_{seed}'
  run = begin(name, seed)
  try:
    return finish(run)
  finally:
    run.stop()


def main(argv) -> int:
  """Runs the drill."""
  del argv
  # An interrupt, which ends the roles as well.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  is_right = drill()
  print(f'The books are {"right" if is_right else "WRONG"}.', flush=True)
  for i in range(_NUM_UNDISTURBED.value):
    score = undisturbed(_SEED.value + i)
    print(f'score undisturbed: {_describe(score)}', flush=True)
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
