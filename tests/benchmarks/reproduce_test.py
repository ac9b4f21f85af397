"""Tests of `reproduce`: settings, data, table, and one small real run."""

import os
import pathlib
import subprocess
import sys
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from benchmarks import methods
from benchmarks import reproduce
from benchmarks import reproduce_tasks
from tests.binaries import tiny
from tests.datasets import d4rl_columns
from tests.reports import run_folders

# The smallest possible sizes.
_TINY = (
    'AntMaze.max_episode_steps = 4',
    'build_agent.chunk_length = 2',
    'run_experiment.num_evaluation_episodes = 1',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.batch_size = 4',
    'Offline.num_steps = 2',
    'Offline.evaluation_interval = None',
    'Offline.batch_size = 4',
    'Online.num_episodes = 1',
    'Online.critic_batch_size = 4',
    'Online.policy_batch_size = 4',
    'Search.jit_compile = False',
    *tiny.ONE_EXPORT,
    'Search.num_samples = 2',
    'ActionOptimizer.num_candidates = 2',
    'ActionOptimizer.num_gradient_steps = 1',
    'CriticEnsemble.hidden_sizes = (8,)',
    'DiffusionPolicy.num_denoising_steps = 2',
    'DenoisingNetwork.hidden_size = 8',
    'DenoisingNetwork.num_blocks = 1',
)


_SECONDS = 900.0  # Time limit, generous because the machine may be busy.


def _start(*arguments):
  return subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.reproduce', *arguments],
      cwd=tiny.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def _reproduce(*arguments):
  """Returns the exit status, standard output and standard error."""
  process = _start(*arguments)
  results, news = process.communicate()
  return process.returncode, results, news


class EntryTest(parameterized.TestCase):

  @parameterized.parameters(*reproduce_tasks.TASKS)
  def test_every_task_has_both_settings(self, task):
    for is_small in (False, True):
      entry = reproduce.make_entry(
          reproduce.Setting(task, is_small), None, [0]
      )
      (file,) = entry.gin_files
      self.assertTrue((tiny.ROOT / 'gin' / file).exists(), file)

  def test_the_callers_file_and_bindings_come_last(self):
    setting = reproduce.Setting('kitchen-mixed', True, ('Critic.tau = 0.1',))
    entry = reproduce.make_entry(setting, '/data/mixed.hdf5', [3, 4])
    self.assertEqual(entry.name, 'kitchen-mixed-small')
    self.assertEqual(entry.gin_files, ('experiments/kitchen_small.gin',))
    self.assertEqual(
        entry.bindings,
        (
            "Kitchen.task = 'mixed'",
            "run_experiment.dataset_path = '/data/mixed.hdf5'",
            'Critic.tau = 0.1',
        ),
    )
    self.assertEqual(entry.seeds, (3, 4))


class DatasetTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._folder = pathlib.Path(self.create_tempdir().full_path)

  def _find(self, name, path=None):
    return reproduce_tasks.find_dataset(name, path, str(self._folder / 'data'))

  def _serve(self, url):
    """Replaces the URL of the door's data."""
    task = reproduce_tasks.TASKS['adroit-door']._replace(url=url)
    tasks = {'adroit-door': task}
    self.enter_context(mock.patch.dict(reproduce_tasks.TASKS, tasks))

  def test_a_file_is_downloaded_once(self):
    served = self._folder / 'door.hdf5'
    served.write_bytes(b'rows')
    self._serve(served.as_uri())

    path = self._find('adroit-door')
    served.unlink()

    self.assertEqual(path, str(self._folder / 'data' / 'door.hdf5'))
    self.assertEqual(pathlib.Path(path).read_bytes(), b'rows')
    self.assertEqual(self._find('adroit-door'), path)

  def test_a_failed_download_names_the_url_and_the_path(self):
    url = (self._folder / 'absent.hdf5').as_uri()
    self._serve(url)
    place = str(self._folder / 'data' / 'absent.hdf5')
    with self.assertRaisesRegex(
        FileNotFoundError, f'{place} is missing.*{url} could not.*another way'
    ):
      self._find('adroit-door')
    self.assertFalse(os.path.exists(place))

  def test_a_given_file_must_exist(self):
    path = str(self._folder / 'mine.hdf5')
    with self.assertRaisesRegex(FileNotFoundError, f'`dataset_path`.*{path}'):
      self._find('kitchen-mixed', path)
    pathlib.Path(path).touch()
    self.assertEqual(self._find('kitchen-mixed', path), path)

  def test_ant_mazes_need_a_file_and_the_cube_does_not(self):
    with self.assertRaisesRegex(FileNotFoundError, '--dataset_path.*mirror'):
      self._find('antmaze-large-play')
    self.assertIsNone(self._find('cube'))


class TableTest(absltest.TestCase):

  def test_only_finished_runs_with_the_same_seeds_and_bindings_count(self):
    root = self.create_tempdir().full_path
    run_folders.write_study(root, {'kitchen-mixed': [40.0, 60.0, 80.0, 90.0]})
    os.remove(os.path.join(root, 'kitchen-mixed', 'seed_1', 'summary.json'))
    run_folders.write_text(
        os.path.join(root, 'kitchen-mixed', 'seed_3', 'study_run.json'),
        '{"settings": ["--gin_bindings=Critic.tau = 1"], "is_finished": true}',
    )
    setting = reproduce.Setting('kitchen-mixed', False)
    entry = reproduce.make_entry(setting, None, [0, 1, 3, 7])
    np.testing.assert_allclose(
        reproduce.read_scores(methods.make_jobs([entry], root)), [[20.0, 40.0]]
    )

  def test_our_scores_are_next_to_the_papers(self):
    scores = np.array([[20.0, x] for x in (40.0, 40.0, 40.0, 70.0, 70.0)])
    setting = reproduce.Setting('kitchen-mixed', False)
    lines = reproduce.describe(setting, scores, 6).splitlines()
    self.assertEqual(
        lines[2],
        '| kitchen-mixed | 20.0 (20.0 to 20.0) -> 50.0 (40.0 to 70.0) | 5 of 6'
        " | 67 -> 77 | paper's |",
    )
    self.assertNotIn('COMPARABLE', '\n'.join(lines))

  def test_results_that_cannot_be_compared_are_marked(self):
    setting = reproduce.Setting('antmaze-large-play', True, ('Critic.tau = 1',))
    text = reproduce.describe(setting, np.zeros([1, 2]), 1)
    self.assertIn(
        '0.0 -> 0.0 | 1 of 1 | 87 -> 97 | small, bindings'
        ' changed |',
        text,
    )
    self.assertIn('NOT COMPARABLE', text)
    self.assertIn('mirror image', text)

  def test_without_a_finished_run_there_is_no_score(self):
    setting = reproduce.Setting('cube', False)
    text = reproduce.describe(setting, np.zeros([0, 2]), 2)
    self.assertIn('| cube | no finished run | 0 of 2 | none |', text)


class CommandTest(absltest.TestCase):
  """Tests the real entry point, with an ant run on twelve made-up steps."""

  def _kill_when(self, text, log, process):
    """Kills only the command as soon as its run has logged `text`."""
    deadline = time.monotonic() + _SECONDS
    with process:
      try:
        while not log.exists() or text not in log.read_text(encoding='utf-8'):
          self.assertIsNone(process.poll())
          self.assertLess(time.monotonic(), deadline)
          time.sleep(0.01)
      finally:
        process.kill()

  # Resuming itself is tested by tests/binaries/resume_test.py.
  @pytest.mark.full
  def test_a_killed_command_resumes_and_does_not_repeat_finished_runs(self):
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'ant.hdf5')
    random = np.random.default_rng(0)
    ends = '---t---t---T'
    d4rl_columns.write(
        path,
        d4rl_columns.make(
            ends,
            observations=random.normal(size=[12, 29]).astype(np.float32),
            actions=random.uniform(-1, 1, [12, 8]).astype(np.float32),
        ),
    )
    command = (
        'antmaze-umaze',
        '--small',
        '--seeds=0',
        f'--dataset_path={path}',
        f'--root_dir={folder}/runs',
        *(f'--gin_bindings={binding}' for binding in _TINY),
    )
    run = pathlib.Path(folder, 'runs', 'antmaze-umaze-small', 'seed_0')
    log = run / 'log.txt'

    self._kill_when('behavior_cloning: 0/', log, _start(*command))
    status, results, news = _reproduce(*command)

    self.assertEqual(status, 0, news)
    self.assertRegex(
        results,
        r'\| antmaze-umaze \| 0.0 -> .* \| 1 of 1 \| none \|'
        ' small, bindings changed',
    )
    text = log.read_text(encoding='utf-8')
    self.assertIn(f'Resuming {run} in phase behavior_cloning', text)
    self.assertEqual(text.count('Phase offline: success'), 1)
    # A finished run is only tabulated.
    self.assertEqual(_reproduce(*command)[:2], (0, results))
    self.assertEqual(log.read_text(encoding='utf-8'), text)

  def test_the_error_for_an_unknown_task_lists_the_known_ones(self):
    status, results, news = _reproduce('kitchen')
    self.assertNotEqual(status, 0)
    self.assertIn("one task of ['antmaze-umaze'", news + results)


if __name__ == '__main__':
  absltest.main()
