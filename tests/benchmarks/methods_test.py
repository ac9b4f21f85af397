"""Tests of studies, whose runs are small substitute programs."""

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time

from absl.testing import absltest
from absl.testing import parameterized

from benchmarks import methods
from benchmarks import study_process
from tests.binaries import tiny
from tests.reports import run_folders

# A run whose last argument determines what it does.
_PROGRAM = """
import os, signal, sys, time
from tests.reports import run_folders
option, seed, mode = sys.argv[1:4]
folder, seed = option.partition('=')[2], int(seed)
with open(os.path.join(folder, 'starts'), 'a') as file:
  file.write('x')
rows = [
    run_folders.evaluated('offline', 10, 40.0),
    run_folders.evaluated('online', 20, 70.0 + seed, env_steps=9),
]
run_folders.write(folder, rows, seed=seed, is_finished=mode == 'finish')
if mode == 'fail':
  print('INFO: all is well')
  raise ValueError('`length` must be positive, got 0.')
if mode == 'die':
  os.kill(os.getpid(), signal.SIGKILL)
if mode == 'hang':
  time.sleep(300.0)
"""

# A run with other bindings than its directory's.
_REFUSED = """
import sys
import gin
from parl_tf.training import run_directory
gin.external_configurable(lambda length=0: length, 'walk')
gin.bind_parameter('walk.length', 6)
run_directory.claim(sys.argv[1].partition('=')[2], seed=0)
"""


class StudyCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path

  def _job(self, mode='finish', name='walk/a', seed=0, budget=None):
    folder = os.path.join(self._root, name, f'seed_{seed}')
    program = f'import sys; sys.path.insert(0, {str(tiny.ROOT)!r})\n{_PROGRAM}'
    command = [
        *(sys.executable, '-c', program),
        *(f'--root_dir={folder}', str(seed), mode),
    ]
    return study_process.Job(
        f'{name}/seed_{seed}', seed, folder, command, budget
    )

  def _run(self, *jobs):
    return methods.run_study(jobs, self._root, num_processes=2)

  def _rows(self):
    path = os.path.join(self._root, 'results.csv')
    with open(path, encoding='utf-8', newline='') as file:
      return {row['run']: row for row in csv.DictReader(file)}

  def _num_starts(self, job):
    return os.path.getsize(os.path.join(job.folder, 'starts'))

  def _wait_for_start(self, job):
    deadline = time.monotonic() + 60.0
    while not os.path.exists(os.path.join(job.folder, 'metrics.csv')):
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)


class RunStudyTest(StudyCase):

  def test_seeds_of_two_versions_of_a_gin_file_are_named(self):
    jobs = [self._job(name=x, seed=y) for x in 'ab' for y in (0, 1)]
    for job, length in zip(jobs, (5, 5, 5, 7)):
      rows = [run_folders.evaluated('online', 10, 40.0)]
      run_folders.write(job.folder, rows, seed=job.seed, length=length)
    output = self.enter_context(
        contextlib.redirect_stderr(io.StringIO())
    )
    self.assertEqual(self._run(*jobs), 0)
    self.assertIn(
        f'The seeds of {self._root}/b differ in LineWalk.length.\n',
        output.getvalue(),
    )
    self.assertNotIn(f'{self._root}/a differ', output.getvalue())

  def test_each_run_has_one_row(self):
    jobs = [self._job(), self._job(seed=1), self._job(name='walk/b')]

    self.assertEqual(self._run(*jobs), 0)

    rows = self._rows()
    self.assertCountEqual(rows, [job.name for job in jobs])
    row = rows['walk/a/seed_1']
    self.assertEqual(tuple(row), methods.COLUMNS)
    self.assertEqual(
        {k: v for k, v in row.items() if v and k not in (
            'core_minutes', 'commit')},
        {
            'run': 'walk/a/seed_1',
            'method': 'a',
            'domain': 'LineWalk',
            'seed': '1',
            'status': 'finished',
            'env_steps': '9',
            'offline_score': '40.0',
            'offline_score_without_search': '20.0',
            'offline_success_rate': '0.4',
            'offline_success_rate_without_search': '0.2',
            'offline_num_episodes': '10',
            'online_score': '71.0',
            'online_score_without_search': '35.5',
            'online_success_rate': '0.71',
            'online_success_rate_without_search': '0.355',
            'online_num_episodes': '10',
        },
    )
    self.assertBetween(float(row['core_minutes']), 0.0, 1.0)
    self.assertNotEmpty(row['commit'])

  def test_a_run_waits_for_the_run_where_it_begins(self):
    first = self._job(name='walk/b')
    later = self._job(name='walk/a')._replace(initial_job=first.name)

    self.assertEqual(self._run(later, first), 0)

    logs = [os.path.join(job.folder, 'log.txt') for job in (first, later)]
    self.assertLess(*(os.stat(log).st_mtime_ns for log in logs))

  def test_a_run_needs_the_offline_phase_of_its_initial_run(self):
    first = self._job('die', name='walk/b')
    later = self._job(name='walk/a')._replace(initial_job=first.name)

    self.assertEqual(self._run(first, later), 2)

    self.assertFalse(os.path.exists(later.folder))
    self.assertEqual(
        self._rows()[later.name]['error'],
        'its initial run walk/b/seed_0 has not finished offline RL',
    )
    os.makedirs(os.path.join(first.folder, 'phases', 'offline'))
    self.assertEqual(self._run(first, later), 1)
    self.assertEqual(self._rows()[later.name]['status'], 'finished')

  def test_a_run_that_has_begun_no_longer_needs_its_initial_run(self):
    job = self._job(name='walk/a')._replace(initial_job='walk/b/seed_0')
    self.assertEqual(self._run(job), 1)
    os.makedirs(os.path.join(job.folder, 'checkpoints'))
    self.assertEqual(self._run(job), 0)

  def test_a_finished_run_is_skipped(self):
    job, later = self._job(), self._job(seed=1)
    self._run(job)

    self.assertEqual(self._run(job, later), 0)

    self.assertEqual(self._num_starts(job), 1)
    self.assertEqual(self._rows()[job.name]['status'], 'finished')
    self.assertEqual(self._num_starts(later), 1)

  def test_a_run_finished_by_hand_is_skipped(self):
    job = self._job('fail')
    run_folders.write(job.folder, [run_folders.evaluated('online', 5, 1.0)])

    self.assertEqual(self._run(job), 0)
    self.assertEqual(self._rows()[job.name]['core_minutes'], '')

  def test_a_finished_run_with_other_arguments_continues(self):
    job = self._job()
    self._run(job)
    os.mkdir(os.path.join(job.folder, 'checkpoints'))

    self._run(job._replace(command=[*job.command, 'more']))

    self.assertEqual(self._num_starts(job), 2)

  def test_results_without_checkpoints_are_not_overwritten(self):
    job = self._job()
    self._run(job)

    self.assertEqual(
        self._run(job._replace(command=[*job.command, 'more'])), 1
    )

    self.assertEqual(self._num_starts(job), 1)
    self.assertIn('give another --root_dir', self._rows()[job.name]['error'])

  def test_a_finished_run_that_went_on_is_unfinished(self):
    job = self._job('fail')
    rows = [run_folders.evaluated('online', 5, 1.0)]
    run_folders.write(job.folder, rows)
    rows.append(run_folders.evaluated('online', 9, 2.0))
    run_folders.write(job.folder, rows, is_finished=False)

    self.assertEqual(self._run(job), 0)
    self.assertEqual(self._rows()[job.name]['status'], 'unfinished')

  def test_a_failed_run_is_reported_and_the_others_continue(self):
    bad, good = self._job('fail'), self._job(seed=1)

    self.assertEqual(self._run(bad, good), 1)

    rows = self._rows()
    self.assertEqual(rows[bad.name]['status'], 'failed')
    self.assertEqual(
        rows[bad.name]['error'], 'ValueError: `length` must be positive, got 0.'
    )
    self.assertEqual(rows[bad.name]['online_score'], '70.0')
    self.assertEqual(rows[good.name]['status'], 'finished')
    # The next session tries it again.
    self._run(bad)
    self.assertEqual(self._num_starts(bad), 2)

  def test_the_error_of_a_run_with_changed_bindings_names_them(self):
    job = self._job()
    self._run(job)
    os.mkdir(os.path.join(job.folder, 'checkpoints'))
    run_folders.write_text(
        os.path.join(job.folder, 'checkpoints', 'checkpoint'), ''
    )
    program = f'import sys; sys.path.insert(0, {str(tiny.ROOT)!r})\n{_REFUSED}'
    command = [sys.executable, '-c', program, job.command[3]]

    self.assertEqual(self._run(job._replace(command=command)), 1)

    self.assertRegex(
        self._rows()[job.name]['error'],
        r'^[\w.]*OtherRunError: .*/config.gin: the directory belongs to another'
        r' configuration .* -LineWalk.length = 5 .*\+walk.length = 6',
    )

  def test_the_signal_that_killed_a_run_is_reported(self):
    job = self._job('die')

    self._run(job)

    self.assertEqual(self._rows()[job.name]['error'], 'killed by SIGKILL')

  def test_a_run_that_never_started_has_a_row(self):
    job = self._job()
    command = [sys.executable, '-c', 'raise SystemError("no disk")']

    self._run(job._replace(command=command))

    row = self._rows()[job.name]
    self.assertEqual(row['error'], 'SystemError: no disk')
    self.assertEqual(row['domain'], '')

  def test_rows_of_runs_outside_the_session_are_kept(self):
    first, second = self._job(), self._job(seed=1)
    self._run(first)

    self._run(second)

    self.assertCountEqual(self._rows(), [first.name, second.name])


class BudgetTest(StudyCase):

  def _end_of(self, job):
    """Runs a job, giving it time to write its metrics."""
    outcomes = []
    methods.run_jobs(
        [job],
        1,
        lambda job, outcome: outcomes.append(outcome),
        lambda jobs: [self._wait_for_start(job) for job in jobs],
    )
    [outcome] = outcomes
    return outcome

  def test_a_run_is_stopped_at_its_budget(self):
    job = self._job('hang', budget=0.5 / 60.0)

    outcome = self._end_of(job)

    self.assertEqual(outcome.status, 'stopped at its budget')
    row = methods.make_row(job, outcome)
    self.assertEqual(row['online_score'], 70.0)
    self.assertGreaterEqual(study_process.read_state(job).core_minutes,
                            job.budget)

  def test_minutes_of_all_sessions_add_up(self):
    job = self._job('hang', budget=0.5 / 60.0)
    self._end_of(job)

    self.assertEqual(self._end_of(job).status, 'stopped at its budget')
    self.assertEqual(self._num_starts(job), 1)
    used = study_process.read_state(job).core_minutes
    os.remove(os.path.join(job.folder, 'metrics.csv'))
    raised = job._replace(budget=used + 0.2 / 60.0)
    self.assertEqual(self._end_of(raised).status, 'stopped at its budget')
    self.assertEqual(self._num_starts(job), 2)
    self.assertGreaterEqual(
        study_process.read_state(job).core_minutes, raised.budget
    )

  def test_a_damaged_state_is_named(self):
    job = self._job('hang', budget=0.5 / 60.0)
    os.makedirs(job.folder)
    with open(os.path.join(job.folder, 'study_run.json'), 'w') as file:
      file.write('{')
    with self.assertRaisesRegex(ValueError, 'study_run.json must be JSON'):
      self._end_of(job)

  def test_a_stopped_run_with_other_arguments_is_a_failure(self):
    job = self._job('hang', budget=0.5 / 60.0)
    self._end_of(job)

    outcome = self._end_of(job._replace(command=[*job.command, 'more']))

    self.assertEqual(outcome.status, 'failed')
    self.assertIn('budget with other arguments', outcome.error)
    self.assertEqual(self._num_starts(job), 1)

  def test_an_interrupted_run_is_stopped_and_its_minutes_count(self):
    job = self._job('hang')
    started = []

    def interrupt(jobs):
      started.extend(jobs)
      self._wait_for_start(job)
      raise KeyboardInterrupt

    with self.assertRaises(KeyboardInterrupt):
      methods.run_jobs([job], 1, lambda *_: None, interrupt)

    state = study_process.read_state(job)
    self.assertFalse(state.is_finished)
    self.assertGreater(state.core_minutes, 0.0)
    self.assertEqual(started, [job])
    self.assertIsNone(study_process.known_outcome(job))

  def test_a_run_dies_with_its_killed_study(self):
    job = self._job('hang')
    program = (
        'import os, signal, sys, time\n'
        'from benchmarks import study_process\n'
        f'job = study_process.Job(*{tuple(job)!r})\n'
        'process = study_process.Process(job)\n'
        'path = os.path.join(job.folder, "metrics.csv")\n'
        'while not os.path.exists(path):\n'
        '  time.sleep(0.02)\n'
        'print(process.pid, flush=True)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
    deadline = time.monotonic() + 30.0
    while _is_running(int(done.stdout)):
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)


def _is_running(pid: int) -> bool:
  try:
    with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
      # A dead process is a zombie until its parent waits for it.
      return file.read().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


if __name__ == '__main__':
  absltest.main()
