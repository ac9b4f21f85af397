"""The online phase of on-policy methods."""

import contextlib
import math
from typing import Optional

import gin
import numpy as np

from parl_tf import types
from parl_tf.training import progress
from parl_tf.training import rollouts
from parl_tf.training import session as session_lib


@gin.configurable
class OnPolicy:
  """Alternates rollouts in parallel environments with training on them.

  A turn is a function of the weights, the seed and the turn's number. A restart
  repeats an interrupted turn from its start, with the same results. Episodes
  are not replayed: they go neither to the episode log nor to the tables. The
  counter `episodes` includes only episodes that ended.
  """

  name = 'online'

  def __init__(
      self,
      num_turns: int = 300,
      num_environments: int = 40,
      num_decisions: Optional[int] = None,
      num_warm_up_turns: int = 0,
      evaluation_interval: int = 10,
  ):
    """Initializes the phase.

    Args:
      num_turns: Total number of turns; 0 skips the phase.
      num_environments: P, number of parallel environments.
      num_decisions: D, decisions per turn in each environment; None takes the
        smallest number that lets every environment finish an episode.
      num_warm_up_turns: Number of first turns that train only the baseline.
      evaluation_interval: Turns between evaluations.

    Raises:
      ValueError: If a number is out of range.
    """
    if min(num_environments, evaluation_interval, num_decisions or 1) < 1:
      raise ValueError(
          '`num_environments`, `num_decisions` and `evaluation_interval` must '
          f'be positive, got {num_environments}, {num_decisions} and '
          f'{evaluation_interval}.'
      )
    if min(num_turns, num_warm_up_turns) < 0:
      raise ValueError(
          '`num_turns` and `num_warm_up_turns` must not be negative, got '
          f'{num_turns} and {num_warm_up_turns}.'
      )
    self._num_turns = num_turns
    self._num_environments = num_environments
    self._num_decisions = num_decisions
    self._num_warm_up_turns = num_warm_up_turns
    self._evaluation_interval = evaluation_interval

  def check(self, domain, agent) -> None:
    """Raises `ValueError` if the domain has too few environments."""
    del agent
    rollouts.check(domain, self._num_environments)

  def run(self, session: session_lib.Session) -> None:
    """Runs or resumes the phase."""
    if not self._num_turns:
      return
    if not session.begin_phase(self.name, self._num_turns):
      return
    state = session.state
    session.agent.begin_online()
    if state.phase_step == 0:
      session.agent.start_fine_tuning()
    bar = progress.Progress(
        self.name, self._num_turns, state.phase_step, unit='turn'
    )
    with bar, contextlib.closing(self._make_actor(session)) as actor:
      while state.phase_step < self._num_turns:
        metrics = self._turn(session, actor)
        if self._is_evaluation(state.phase_step):
          metrics.update(_evaluate(session))
        session.write_row(metrics)
        bar.update(state.phase_step, **metrics)
        session.save_if_due()
    if not state.latest:
      # A restart lowered the number of turns below the number already done.
      session.write_row(_evaluate(session))
    session.end_phase()

  def _turn(self, session, actor):
    """Collects one rollout, then trains on it."""
    state = session.state
    acted = actor.act(state.phase_step)
    state.phase_step += 1
    state.env_steps += acted.num_steps
    state.episodes += len(acted.lengths)
    experience = types.Experience(baseline_rollout=acted.rollout)
    if state.phase_step > self._num_warm_up_turns:
      experience = types.Experience(rollout=acted.rollout)
    session.train_on(experience)
    if not acted.lengths:
      return {}
    return {
        'collect/success': float(np.mean(acted.successes)),
        'collect/length': float(np.mean(acted.lengths)),
    }

  def _make_actor(self, session):
    num_decisions = self._num_decisions or math.ceil(
        session.domain.max_episode_steps / session.agent.chunk_length
    )
    return rollouts.RolloutActor(
        session.domain,
        session.agent,
        num_environments=self._num_environments,
        num_decisions=num_decisions,
        seed=session.seed,
    )

  def _is_evaluation(self, turn):
    return turn == self._num_turns or turn % self._evaluation_interval == 0


def _evaluate(session):
  """Evaluates once, because both rates are equal without search."""
  metrics = session.evaluate(with_search=False)
  ending = '_without_search'
  for found in (metrics, session.state.latest):
    found.update(
        {
            name.removesuffix(ending): value
            for name, value in found.items()
            if name.endswith(ending)
        }
    )
  return metrics
