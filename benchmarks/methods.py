"""Runs methods x domains x seeds, one core each, and tabulates the results.

  python -m benchmarks.methods --study FILE.gin --root_dir runs/methods

A study file is a gin file. Each entry is one method in one domain. Its name may
contain slashes to sort methods by domain; the last part names the method in
reports:

  study.entries = [
      {'name': 'pointmaze/parl_cal_ql', 'gin_files': ['quickstart.gin'],
       'controls': True},
      {'name': 'pointmaze/parl_iql', 'gin_files': ['quickstart.gin'],
       'bindings': ['build_agent.critic_ctor = @IQLCritic'],
       'seeds': [0, 1, 2], 'budget': 30},
      {'name': 'pointmaze/no_local', 'gin_files': [
           'quickstart.gin', 'ablations/no_local.gin'],
       'initial_entry': 'pointmaze/parl_cal_ql'},
  ]
  study.seeds = [0, 1]  # For entries without seeds.
  study.common_bindings = ['run_experiment.num_evaluation_episodes = 64']

With `initial_entry`, a run takes over data, networks and finished phases of the
run of that entry with the same seed (`run_experiment.initial_run`), and waits
until it has ended. At the end, `parl-controls` measures the controls of the
finished runs of entries with `controls`. `--gin_bindings` are applied last,
to every entry. Runs see a GPU only if the variable CUDA_VISIBLE_DEVICES is set.

A run is in R/NAME/seed_S, with its output in `log.txt`. The study may be killed
or interrupted at any time; rerun the same command to resume. It skips runs that
are finished or have used up their budget. A run can be resumed with changed
numbers of steps, episodes or evaluations; other changes are an error.
`R/results.csv` has one row per run.
"""

import csv
import os
import shlex
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from absl import app
from absl import flags
import rich.console
import rich.progress

from benchmarks import seed_settings
from benchmarks import study_entries
from benchmarks import study_process
from parl_tf import synced_file
from parl_tf.binaries import configs
from parl_tf.reports import controls
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from parl_tf.training import run_directory

_PHASES = ('behavior_cloning', 'offline', 'online')
_RESULTS = (
    'score',
    'score_without_search',
    'success_rate',
    'success_rate_without_search',
    'num_episodes',
    *run_files.SPEED_METRICS,
)
COLUMNS = (
    *('run', 'method', 'domain', 'seed', 'status', 'core_minutes', 'env_steps'),
    *(f'{phase}_{name}' for phase in _PHASES for name in _RESULTS),
    *('commit', 'error'),
)
"""Columns of `results.csv`; `num_episodes` is per evaluation."""

_POLL_SECONDS = 0.2

Row = Mapping[str, Any]


def make_jobs(
    entries: Sequence[study_entries.Entry],
    root_dir: str,
    budget: Optional[float] = None,
) -> List[study_process.Job]:
  """Returns every run, with the first seeds of all entries first.

  Args:
    entries: Entries of the study file.
    root_dir: Directory of the study.
    budget: Core-minutes per run for entries without a budget.
  """
  jobs = []
  for place in range(max((len(entry.seeds) for entry in entries), default=0)):
    for entry in entries:
      if place >= len(entry.seeds):
        continue
      seed = entry.seeds[place]
      name = f'{entry.name}/seed_{seed}'
      folder = os.path.join(root_dir, name)
      bindings, initial_job = list(entry.bindings), None
      if entry.initial_entry is not None:
        initial_job = f'{entry.initial_entry}/seed_{seed}'
        initial_run = os.path.join(root_dir, initial_job)
        bindings.append(f'{study_process.INITIAL_RUN} = {initial_run!r}')
      arguments = [
          f'--root_dir={folder}',
          f'--seed={seed}',
          *(f'--gin_file={x}' for x in entry.gin_files),
          *(f'--gin_bindings={x}' for x in bindings),
      ]
      jobs.append(
          study_process.Job(
              name=name,
              seed=seed,
              folder=folder,
              command=[
                  sys.executable, '-m', 'parl_tf.binaries.train', *arguments
              ],
              budget=budget if entry.budget is None else entry.budget,
              initial_job=initial_job,
          )
      )
  return jobs


def run_jobs(
    jobs: Sequence[study_process.Job],
    num_processes: int,
    on_end: Callable[[study_process.Job, study_process.Outcome], None],
    on_poll: Callable[[Sequence[study_process.Job]], None] = lambda jobs: None,
) -> None:
  """Runs unfinished jobs that have budget left, `num_processes` at a time.

  Args:
    jobs: All runs, in the order to start them.
    num_processes: Number of parallel processes.
    on_end: Called once per job.
    on_poll: Called periodically with the running jobs.
  """
  waiting, running = list(jobs), []
  try:
    while waiting or running:
      while len(running) < num_processes:
        job = _next(waiting, running)
        if job is None:
          break
        waiting.remove(job)
        outcome = study_process.known_outcome(job)
        if outcome is None:
          running.append(study_process.Process(job))
        else:
          on_end(job, outcome)
      for process in tuple(running):
        outcome = process.poll()
        if outcome is not None:
          running.remove(process)
          on_end(process.job, outcome)
      on_poll([process.job for process in running])
      if running:
        time.sleep(_POLL_SECONDS)
  finally:
    # After an interrupt, each run can resume from its last checkpoint.
    study_process.stop_all(running)


def _next(waiting, running) -> Optional[study_process.Job]:
  """Returns the first job whose initial job has ended, if there is one."""
  unfinished = {job.name for job in waiting}
  unfinished.update(process.job.name for process in running)
  return next(
      (job for job in waiting if job.initial_job not in unfinished), None
  )


def make_row(job: study_process.Job, outcome: study_process.Outcome) -> Row:
  """Returns a job's row of `results.csv`, with its last metrics if any."""
  state = study_process.read_state(job)
  method = job.name.split('/')[-2]
  row: Dict[str, Any] = {
      'run': job.name,
      'method': method,
      'seed': job.seed,
      'status': outcome.status,
      'core_minutes': f'{state.core_minutes:.2f}' if state else '',
      'commit': ' '.join(state.commits) if state else '',
      'error': outcome.error,
  }
  if not os.path.exists(os.path.join(job.folder, 'metrics.csv')):
    return row
  try:
    run = runs_lib.read_run(job.folder, method)
  except ValueError as error:
    # One unreadable run must not lose the rows of the others.
    return {**row, 'error': outcome.error or str(error)}
  row['domain'] = run.domain
  if outcome.status == study_process.FINISHED and not run.is_finished:
    row['status'] = 'unfinished'  # Continued by hand since.
  if run.metrics.phases.size:
    row['env_steps'] = int(run.metrics.columns['env_steps'][-1])
  for phase in _PHASES:
    result = runs_lib.phase_result(run, phase)
    for name in _RESULTS if result else ():
      number = getattr(result, name)
      if number == number:  # Skips NaN, which means not logged.
        row[f'{phase}_{name}'] = number
  return row


class Results:
  """`results.csv`, rewritten after every new row.

  Keeps the rows of runs that are not part of this session.
  """

  def __init__(self, path: str):
    """Reads the file at `path` if it exists."""
    self._path = path
    self._rows: Dict[str, Row] = {}
    if os.path.exists(path):
      with open(path, encoding='utf-8', newline='') as file:
        self._rows = {row['run']: row for row in csv.DictReader(file)}

  def add(self, row: Row) -> None:
    """Adds a row, or replaces the row of the same run."""
    self._rows[row['run']] = row
    rows = [self._rows[name] for name in sorted(self._rows)]
    synced_file.write_csv(self._path, COLUMNS, rows)


class Display:
  """Prints a line per finished run; on a terminal also shows progress."""

  def __init__(self, num_jobs: int):
    """Initializes the display, which is a context manager."""
    self._num_jobs = num_jobs
    self._num_ended = 0
    console = rich.console.Console(stderr=True)
    self._bar = rich.progress.Progress(
        rich.progress.TextColumn('runs'),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn('{task.fields[status]}', markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    self._task = self._bar.add_task('', total=num_jobs, status='')

  def __enter__(self):
    self._bar.start()
    return self

  def __exit__(self, *unused_exception):
    self._bar.stop()

  def show_running(self, jobs: Sequence[study_process.Job]) -> None:
    """Shows the running jobs."""
    self._bar.update(self._task, status=', '.join(job.name for job in jobs))

  def show_end(self, row: Row) -> None:
    """Prints how a run ended."""
    self._num_ended += 1
    scores = [
        f'{phase.replace("_", " ")} {row[f"{phase}_score"]:.1f}'
        for phase in _PHASES
        if f'{phase}_score' in row
    ]
    minutes = row['core_minutes'] or 'unknown'
    parts = [
        f'[{self._num_ended}/{self._num_jobs}] {row["run"]}: {row["status"]}',
        f'{minutes} core-minutes',
        *scores,
        *filter(None, [row['error']]),
    ]
    self._bar.console.print(
        ', '.join(parts), markup=False, highlight=False, soft_wrap=True
    )
    self._bar.update(self._task, completed=self._num_ended)


def run_study(
    jobs: Sequence[study_process.Job], root_dir: str, num_processes: int
) -> int:
  """Runs all jobs, writes `results.csv`, and names seeds of other settings.

  Args:
    jobs: Result of `make_jobs`.
    root_dir: Directory of the study.
    num_processes: Number of parallel processes.

  Returns:
    The number of runs that failed.
  """
  results = Results(os.path.join(root_dir, 'results.csv'))
  failed = []
  with Display(len(jobs)) as display:

    def on_end(job, outcome):
      row = make_row(job, outcome)
      results.add(row)
      display.show_end(row)
      if outcome.status == study_process.FAILED:
        failed.append(job.name)

    run_jobs(jobs, num_processes, on_end, display.show_running)
  entries = dict.fromkeys(os.path.dirname(job.folder) for job in jobs)
  for note in seed_settings.differences(list(entries)):
    print(note, file=sys.stderr)
  return len(failed)


def measure_controls(
    entries: Sequence[study_entries.Entry],
    jobs: Sequence[study_process.Job],
    num_processes: int,
) -> int:
  """Measures the controls of finished runs; returns the exit status.

  Args:
    entries: Entries of the study.
    jobs: Result of `make_jobs`.
    num_processes: Number of parallel processes.
  """
  names = {entry.name for entry in entries if entry.controls}
  failed = []

  def on_end(job, outcome):
    if outcome.status == study_process.FAILED:
      failed.append(job.name)
      print(f'{job.name}: {outcome.error}', file=sys.stderr)

  program = [sys.executable, '-m', 'parl_tf.binaries.controls']
  missing = [
      study_process.Job(
          f'{job.name}/controls',
          job.seed,
          os.path.join(job.folder, 'controls'),
          [*program, f'--runs={job.folder}'],
      )
      for job in jobs
      if os.path.dirname(job.name) in names
      and os.path.exists(os.path.join(job.folder, 'summary.json'))
      and not controls.are_complete(job.folder)
  ]
  run_jobs(missing, num_processes, on_end)
  return 1 if failed else 0


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  configs.parse([options.study])
  entries = study_entries.study()
  if options.only:
    try:
      entries = study_entries.choose(entries, options.only)
    except ValueError as error:
      raise app.UsageError(f'--only: {error}') from error
  entries = [
      entry._replace(bindings=(*entry.bindings, *options.gin_bindings))
      for entry in entries
  ]
  root_dir = options.root_dir
  # Treats SIGTERM as an interrupt, which also stops the runs.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  with run_directory.hold(root_dir, 'study.lock'):
    try:
      num_processes = options.num_processes or len(os.sched_getaffinity(0))
      jobs = make_jobs(entries, root_dir, options.budget)
      num_failed = run_study(jobs, root_dir, num_processes)
      controls_status = measure_controls(entries, jobs, num_processes)
    except KeyboardInterrupt:
      print('Interrupted. Rerun the same command to resume.', file=sys.stderr)
      return 130
  print(f'Results: {os.path.join(root_dir, "results.csv")}')
  words = ['--runs', root_dir, '--output', os.path.join(root_dir, 'report')]
  print(f'Compare: parl-report {shlex.join(words)}')
  return 1 if num_failed or controls_status else 0


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('study', None, 'Gin file of the study.', required=True)
  flags.DEFINE_string('root_dir', None, 'Directory of all runs.', required=True)
  flags.DEFINE_float(
      'budget', None, 'Core-minutes per run, including restarts.', 0.0
  )
  flags.DEFINE_list('only', [], 'Entries or folders to run; default: all.')
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'Gin bindings for every entry, applied last.'
  )
  flags.DEFINE_integer(
      'num_processes', None, 'Parallel runs; by default one per core.', 1
  )
  app.run(main)


if __name__ == '__main__':
  run()
