"""Tests a run of several processes while each one is killed once."""

import os

from absl.testing import absltest

from parl_tf.distributed import journal
from parl_tf.distributed import server_link
from parl_tf.distributed import spool
from parl_tf.replay import episode_log
from tests.binaries import roles
from tests.binaries import tiny

_NUM_EPISODES = 24


class DistributedTest(absltest.TestCase):

  def test_run_survives_the_kill_of_any_role(self):
    root_dir = self.create_tempdir().full_path
    run = roles.Roles(
        root_dir,
        [
            f'Online.num_episodes = {_NUM_EPISODES}',
            'Online.evaluation_interval = 1_000',
            'run_experiment.checkpoint_seconds = 0.0',
            # Tests of the launcher run all phases.
            "run_experiment.phase_names = ('online',)",
            "run_experiment.exported_policies = ('base_policy',)",
        ],
    )
    self.addCleanup(run.stop)
    for name in ('service', 'learner', 'collector_0', 'collector_1'):
      run.start(name)
    run.wait_until(lambda: run.num_rows('online') >= 4)

    run.kill('collector_0')
    run.start('collector_0')
    run.kill('service')
    # The learner may be compiling, and then learns of it only later.
    run.wait_until(lambda: 'Waiting for localhost' in run.output('learner'))
    run.start('service')
    seen = run.num_rows('online')
    run.wait_until(lambda: run.num_rows('online') >= seen + 4)
    run.kill('learner')
    run.start('learner')
    run.finish('learner')
    run.finish('collector_0')
    run.finish('collector_1')

    link = server_link.ServerLink(f'localhost:{run.port}')
    held = journal.read(link)
    self._check_nothing_is_lost_or_doubled(run, held, link)
    self._check_ratio(run, held)

  def _check_nothing_is_lost_or_doubled(self, run, held, link):
    log = episode_log.EpisodeLog(os.path.join(run.root_dir, 'episodes'))
    logged = [episode.episode_id for episode in log.read()]
    self.assertLen(set(logged), len(logged))
    self.assertEqual(held.episode_id.tolist(), logged)
    self.assertEqual(link.size('online'), held.num_steps.sum())
    self.assertEmpty(held.refused)
    # What a collector acknowledged is in the log.
    for collector in range(2):
      numbers = [
          int(name[len('episode_') : -len('.npz')])
          for name in run.episodes('spool', str(collector))
      ]
      arrived = [
          spool.number_of(i)
          for i in logged
          if spool.collector_of(i) == collector
      ]
      # One that the killed service had not logged is sent again, later.
      self.assertEqual(sorted(arrived), list(range(len(arrived))))
      self.assertEmpty(set(numbers) - set(arrived))

  def _check_ratio(self, run, held):
    """Checks one training step per environment step after the warm-up."""
    (last,) = tiny.read_metrics(os.path.join(run.root_dir, 'learner'))[-1:]
    self.assertEqual(last['episodes'], str(_NUM_EPISODES + 1))
    num_steps = held.num_steps[: _NUM_EPISODES + 1]
    self.assertEqual(last['env_steps'], str(num_steps.sum()))
    self.assertEqual(last['train_step'], str(num_steps[1:].sum()))


if __name__ == '__main__':
  absltest.main()
