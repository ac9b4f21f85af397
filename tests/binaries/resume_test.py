"""Tests that kills do not change the results of a run."""

import glob
import os
import re

from absl.testing import absltest

from tests.binaries import tiny


def _timeless(root_dir):
  """Returns the rows without the wall-clock column."""
  rows = tiny.read_metrics(root_dir)
  return [
      {k: v for k, v in row.items() if k != 'wall_seconds'} for row in rows
  ]


class ResumeTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._undisturbed = tiny.finished_run()

  def test_run_killed_in_each_phase_equals_an_uninterrupted_run(self):
    root_dir = os.path.join(tiny.make_folder(), 'killed')
    episodes = os.path.join(root_dir, 'episodes')
    # One checkpoint at the phase's start: rows are truncated and repeated.
    seldom = ['run_experiment.checkpoint_seconds = 1e6', *tiny.ONE_EXPORT]
    run = tiny.Run(root_dir, seldom)
    run.kill_when(lambda: run.num_rows() >= 4)
    self.assertLen(self._phases(root_dir), 1)

    # A checkpoint with every row: it resumes in the middle.
    often = ['run_experiment.checkpoint_seconds = 0.0', *tiny.ONE_EXPORT]
    run = tiny.Run(root_dir, often)
    run.kill_when(lambda: run.num_rows() >= 12)
    self.assertLen(self._phases(root_dir), 2)

    # The log has two episodes that the checkpoint does not have.
    run = tiny.Run(root_dir, seldom)
    run.kill_when(lambda: glob.glob(os.path.join(episodes, '*_1.npz')))
    self.assertLen(self._phases(root_dir), 3)

    # Only the export is left after the last row.
    run = tiny.Run(root_dir, tiny.ONE_EXPORT)
    run.kill_when(lambda: run.num_rows() == tiny.NUM_ROWS)
    self.assertEqual(
        _timeless(root_dir), _timeless(self._undisturbed)
    )
    self._check_repeated(run.output())

  def _phases(self, root_dir):
    return {row['phase'] for row in tiny.read_metrics(root_dir)}

  def _check_repeated(self, output):
    """Checks that each restart logs what it repeats and repeats little."""
    repeated = re.findall(
        r'Resuming .* in phase (\w+) at training step (\d+); (\d+) training'
        r' steps, ([\d.]+) s of work, are repeated',
        output,
    )
    phases, steps, num_steps, seconds = zip(*repeated)
    self.assertEqual(phases, ('behavior_cloning', 'offline', 'online'))
    self.assertEqual(steps[0], '0')
    self.assertGreaterEqual(int(num_steps[0]), 8)
    # The offline phase starts after 18 cloning steps; it resumed in the middle.
    self.assertGreater(int(steps[1]), 18)
    self.assertEqual(steps[2], '30')
    self.assertLess(max(map(float, seconds)), 30.0)
    self.assertNotIn('Dropping', output)


if __name__ == '__main__':
  absltest.main()
