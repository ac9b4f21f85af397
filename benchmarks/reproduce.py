"""Trains PA-RL on a task of the paper and compares the scores.

  python -m benchmarks.reproduce kitchen-complete --seeds 0,1,2
  python -m benchmarks.reproduce antmaze-umaze --small --dataset_path ant.hdf5

The paper is Mark et al. (2024), arXiv:2412.06685. Settings are in
gin/experiments: the paper's or, with `--small`, settings that two cores train
in tens of minutes. These show that everything works, not how well the method
performs. Data comes from `--dataset_path` or from D4RL's host. Runs are in
ROOT_DIR/TASK/seed_S and use one core each. They may be killed or interrupted at
any time; rerun the same command to resume.
"""

import os
import signal
import sys
from typing import NamedTuple, Optional, Sequence, Tuple

from absl import app
from absl import flags
import numpy as np

from benchmarks import methods
from benchmarks import reproduce_tasks
from benchmarks import study_entries
from benchmarks import study_process
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics
from parl_tf.training import run_directory

_PHASES = ('offline', 'online')
_HEADER = (
    '| task | ours: offline -> online (95 % interval) | seeds |'
    " the paper's PA-RL | setting |\n|---|---|---|---|---|"
)


class Setting(NamedTuple):
  """Settings of a reproduction.

  Attributes:
    task: Name of a task.
    is_small: Whether to use the small sizes.
    gin_bindings: Gin bindings, applied last.
  """

  task: str
  is_small: bool
  gin_bindings: Tuple[str, ...] = ()

  @property
  def name(self) -> str:
    """Returns the directory name of the runs."""
    return self.task + ('-small' if self.is_small else '')

  @property
  def label(self) -> str:
    """Returns a label for the table."""
    changed = ', bindings changed' if self.gin_bindings else ''
    return ('small' if self.is_small else "paper's") + changed


def make_entry(
    setting: Setting, dataset_path: Optional[str], seeds: Sequence[int]
) -> study_entries.Entry:
  """Returns the task as an entry of a study.

  Args:
    setting: Settings of the reproduction.
    dataset_path: Data file; None if the task records its own.
    seeds: Seeds, with one run each.
  """
  task = reproduce_tasks.TASKS[setting.task]
  data = (f'run_experiment.dataset_path = {dataset_path!r}',)
  ending = '_small' if setting.is_small else ''
  return study_entries.Entry(
      name=setting.name,
      gin_files=(f'experiments/{task.experiment}{ending}.gin',),
      bindings=(
          *task.bindings, *(data if dataset_path else ()), *setting.gin_bindings
      ),
      seeds=tuple(seeds),
      budget=None,
  )


def read_scores(jobs: Sequence[study_process.Job]) -> np.ndarray:
  """Returns scores `[R, 2]`, offline and online, of the finished runs.

  Args:
    jobs: Result of `methods.make_jobs`. The directory of a job that has not
      finished with its own bindings may hold other results, which do not count.
  """
  scores = []
  for job in jobs:
    outcome = study_process.known_outcome(job)
    if outcome is None or outcome.status != study_process.FINISHED:
      continue
    run = runs_lib.read_run(job.folder, job.name)
    results = [runs_lib.phase_result(run, phase) for phase in _PHASES]
    if None not in results:
      scores.append([result.score for result in results])
  return np.array(scores).reshape([-1, len(_PHASES)])


def describe(setting: Setting, scores: np.ndarray, num_seeds: int) -> str:
  """Returns the table with the remarks needed to compare the scores.

  Args:
    setting: Settings of the runs.
    scores: `[R, 2]`, from `read_scores`.
    num_seeds: Number of seeds requested.
  """
  task = reproduce_tasks.TASKS[setting.task]
  ours, paper = 'no finished run', 'none'
  if len(scores):
    ours = ' -> '.join(_estimate(scores[:, i]) for i in range(len(_PHASES)))
  if task.paper is not None:
    paper = f'{task.paper[0]} -> {task.paper[1]}'
  lines = [
      _HEADER,
      f'| {setting.task} | {ours} | {len(scores)} of {num_seeds} | {paper} |'
      f' {setting.label} |',
      '',
      'Scores are 0 to 100. Ours: interquartile mean over seeds at the last'
      ' evaluation, with search; bootstrap intervals over'
      f" {statistics.MIN_SEEDS} or more seeds. The paper's: five seeds, read"
      ' from its plots, accurate to 1.5.',
  ]
  if setting.is_small:
    lines.append(
        "NOT COMPARABLE with the paper's score: the small setting has smaller"
        ' networks, a smaller search and far fewer steps and episodes.'
    )
  elif setting.gin_bindings:
    lines.append(f'Changed bindings: {"; ".join(setting.gin_bindings)}.')
  if task.remark:
    lines.append(task.remark)
  return '\n'.join(lines)


def _estimate(scores):
  estimate = statistics.estimate(scores[:, np.newaxis])
  if not estimate.has_interval:
    return f'{estimate.value:.1f}'
  return f'{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})'


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  options = flags.FLAGS
  names = list(reproduce_tasks.TASKS)
  if len(argv) != 2 or argv[1] not in names:
    raise app.UsageError(f'Give one task of {names}, got {argv[1:]}.')
  if not all(seed.isdecimal() for seed in options.seeds) or not options.seeds:
    raise app.UsageError(f'--seeds: integers, got {options.seeds}.')
  seeds = list(dict.fromkeys(int(seed) for seed in options.seeds))
  setting = Setting(argv[1], options.small, tuple(options.gin_bindings))
  root_dir = options.root_dir
  # Treats SIGTERM as an interrupt, which also stops the runs.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    with run_directory.hold(root_dir, 'study.lock'):
      dataset_path = reproduce_tasks.find_dataset(
          setting.task, options.dataset_path, os.path.join(root_dir, 'data')
      )
      jobs = methods.make_jobs(
          [make_entry(setting, dataset_path, seeds)], root_dir
      )
      num_failed = methods.run_study(
          jobs,
          root_dir,
          options.num_processes or len(os.sched_getaffinity(0)),
      )
  except KeyboardInterrupt:
    print('Interrupted. Rerun the same command to resume.', file=sys.stderr)
    return 130
  print(describe(setting, read_scores(jobs), len(seeds)))
  return 1 if num_failed else 0


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('dataset_path', None, 'Data file; downloaded by default.')
  flags.DEFINE_list('seeds', ['0', '1', '2'], 'Seeds, with one run each.')
  flags.DEFINE_bool('small', False, 'Whether to use sizes for two cores.')
  flags.DEFINE_string('root_dir', 'runs/reproduce', 'Directory of all runs.')
  flags.DEFINE_multi_string('gin_bindings', [], 'Gin bindings, applied last.')
  flags.DEFINE_integer(
      'num_processes', None, 'Parallel runs; by default one per core.', 1
  )
  app.run(main)


if __name__ == '__main__':
  run()
