"""Writers of a run's tables."""

from typing import Dict

import numpy as np

from parl_tf.replay import checks
from parl_tf.replay import episode_writer
from parl_tf.replay import stored_step
from parl_tf.training import builder
from parl_tf.training import hindsight
from parl_tf.training import run_constants


def make(
    domain, agent, sink: episode_writer.Sink
) -> Dict[str, episode_writer.EpisodeWriter]:
  """Makes the writers of tables `offline` and `online`.

  Args:
    domain: `Domain`.
    agent: `PARLAgent`; its discount factor defines the returns.
    sink: Receives every episode.
  """
  copies = hindsight.Hindsight(domain)
  constants = run_constants.read(domain, agent)
  step_spec = checks.spec_of_signature(
      stored_step.signature(
          builder.observation_spec(domain), builder.action_spec(domain)
      )
  )

  def make_writer(worst_return, timeout_fails=False):
    return episode_writer.EpisodeWriter(
        gamma=constants.gamma,
        reward_scale=constants.reward_scale,
        reward_bias=constants.reward_bias,
        never_succeeds_value=None if np.isnan(worst_return) else worst_return,
        extrapolate=bool(constants.extrapolates_returns),
        timeout_fails=timeout_fails,
        make_copies=copies.copies,
        sink=sink,
        step_spec=step_spec,
    )

  return {
      'offline': make_writer(constants.offline_worst_return),
      'online': make_writer(
          constants.online_worst_return, bool(constants.timeouts_fail_online)
      ),
  }
