"""Tests of a study's command line and of the jobs that it makes."""

import json
import os
import subprocess
import sys

from absl.testing import absltest

from benchmarks import methods
from benchmarks import study_entries
from tests.binaries import tiny
from tests.reports import run_folders


class JobsTest(absltest.TestCase):

  def test_first_seeds_of_all_entries_run_first(self):
    entries = [
        study_entries.Entry('maze/a', ('a.gin',), ('A.y = 1',), (0, 1), 2.5),
        study_entries.Entry('b', ('b.gin',), (), (7,), None),
    ]

    jobs = methods.make_jobs(entries, 'runs/x', budget=9.0)

    self.assertEqual(
        [(job.name, job.budget) for job in jobs],
        [('maze/a/seed_0', 2.5), ('b/seed_7', 9.0), ('maze/a/seed_1', 2.5)],
    )
    self.assertEqual(
        jobs[2].command[1:],
        ['-m', 'parl_tf.binaries.train', '--root_dir=runs/x/maze/a/seed_1',
         '--seed=1', '--gin_file=a.gin', '--gin_bindings=A.y = 1'],
    )


  def test_a_run_begins_at_the_run_of_its_seed(self):
    first = study_entries.Entry('a', ('a.gin',), (), (0, 1), None)
    entries = [first, first._replace(name='b', initial_entry='a')]

    job = methods.make_jobs(entries, 'runs/x')[3]

    self.assertEqual(job.initial_job, 'a/seed_1')
    self.assertEqual(
        job.command[-1],
        "--gin_bindings=run_experiment.initial_run = 'runs/x/a/seed_1'",
    )


class CommandTest(absltest.TestCase):
  """Tests the real entry point with a real `parl-train` that fails."""

  def test_a_failure_is_reported_and_sets_the_status(self):
    folder = self.create_tempdir().full_path
    study = os.path.join(folder, 'study.gin')
    run_folders.write_text(
        study,
        "study.entries = [{'name': 'maze/a', 'gin_files': ['absent.gin'],"
        " 'bindings': ['A.x = 1'], 'controls': True}]",
    )

    done = subprocess.run(
        [
            *(sys.executable, '-m', 'benchmarks.methods'),
            f'--study={study}',
            f'--root_dir={folder}/runs',
            '--gin_bindings=A.x = 2',
            '--gin_bindings=A.y = 3',
        ],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    self.assertEqual(done.returncode, 1, done.stderr)
    self.assertRegex(
        done.stderr, r'\[1/1\] maze/a/seed_0: failed.*no gin file .absent.gin'
    )
    self.assertIn(f'parl-report --runs {folder}/runs --output', done.stdout)
    path = os.path.join(folder, 'runs', 'maze', 'a', 'seed_0')
    with open(os.path.join(path, 'study_run.json'), encoding='utf-8') as file:
      state = json.load(file)
    self.assertFalse(state['is_finished'])
    self.assertEqual(
        [x for x in state['settings'] if x.startswith('--gin_bindings')],
        [f'--gin_bindings=A.{x}' for x in ('x = 1', 'x = 2', 'y = 3')],
    )


if __name__ == '__main__':
  absltest.main()
