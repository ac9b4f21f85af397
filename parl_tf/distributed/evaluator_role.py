"""The evaluator role: evaluates the learner's weights during training."""

import time

from absl import logging
import gin

from parl_tf import synced_file
from parl_tf.distributed import directory_id
from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.distributed import weights as weights_lib
from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation
from parl_tf.training import experiment
from parl_tf.training import metrics_log

COLUMNS = (
    'success_rate_without_search',
    'score_without_search',
    'num_evaluation_episodes',
    *evaluation.SPEED_METRICS,
)
"""Columns of `metrics.csv` after the counters, score and success rate."""


@gin.configurable(denylist=['root_dir', 'seed', 'address', 'num_episodes'])
def follow(
    root_dir: str,
    seed: int,
    address: str,
    num_episodes: int,
    *,
    min_seconds: float = 10.0,
) -> int:
  """Evaluates the newest weights repeatedly until training ends.

  Args:
    root_dir: Directory of `metrics.csv` and `tensorboard`; existing files are
      extended.
    seed: Non-negative integer seed of the episodes.
    address: `host:port` of the replay service.
    num_episodes: Episodes of an evaluation.
    min_seconds: Minimum seconds between the starts of two evaluations.

  Returns:
    The number of evaluations.

  Raises:
    ValueError: If the directory has the results of another run.
  """
  link = server_link.ServerLink(address)
  reader = journal_lib.Reader(link)
  journal = link.wait_for(journal_lib.TABLE, reader.read)
  synced_file.make_directory(root_dir)
  directory_id.check_run(root_dir, int(journal.run_id[0]))
  domain = domain_lib.select_domain()
  # The observation statistics arrive with the weights.
  agent = experiment.make_agent(domain, None, seed)
  train_step = agent.train_step_counter
  weights = weights_lib.Weights(link, agent.acting_variables, train_step)
  evaluator = evaluation.Evaluator(
      domain, num_episodes=num_episodes, seed=seed
  )
  num_evaluations = 0
  with metrics_log.MetricsLog(root_dir, COLUMNS, resume_rows=None) as metrics:
    started = time.monotonic() - metrics.wall_seconds

    def receive():
      is_there = weights.receive() is not None
      if is_there:
        now = reader.read()
        if now is None:  # The service was restarted, perhaps as another run's.
          return None
        directory_id.check_run(root_dir, int(now.run_id[0]))
      is_new = int(train_step) > metrics.train_step or not metrics.num_rows
      # Ignores the steps that a restarted learner repeats.
      return True if is_there and (is_new or weights.is_over) else None

    while True:
      link.wait_for(weights_lib.TABLE, receive)
      if metrics.num_rows and int(train_step) <= metrics.train_step:
        return num_evaluations
      began = time.monotonic()
      searched = evaluator.run_policy(agent.evaluation_policy)
      base = evaluator.run_policy(agent.base_policy)
      metrics.write(
          phase='online',
          train_step=int(train_step),
          env_steps=0,
          episodes=int(weights.num_episodes),
          wall_seconds=began - started,
          metrics={
              **searched.metrics(),
              **base.metrics('_without_search'),
              'num_evaluation_episodes': num_episodes,
          },
          evaluations={'search': searched, 'alone': base},
      )
      num_evaluations += 1
      logging.info(
          'Training step %d: score %.1f, without search %.1f.',
          int(train_step),
          searched.score,
          base.score,
      )
      time.sleep(max(0.0, min_seconds - (time.monotonic() - began)))
