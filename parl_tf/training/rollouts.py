"""Collects rollouts in parallel environments, for on-policy learning."""

from typing import List, NamedTuple

import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.agents import dppo_agent
from parl_tf.domains import closing
from parl_tf.domains import domain as domain_lib


class ActedRollout(NamedTuple):
  """A rollout and its statistics.

  Attributes:
    rollout: `[D, P, ...]` tensors.
    num_steps: Environment steps, summed over the environments.
    lengths: Environment steps of each episode that ended.
    successes: Whether each episode that ended succeeded at any step.
  """

  rollout: dppo_agent.Rollout
  num_steps: int
  lengths: List[int]
  successes: List[bool]


def check(domain, num_environments: int) -> None:
  """Raises `ValueError` if a domain has fewer environments than this."""
  limit = domain.max_environments
  if limit is not None and num_environments > limit:
    raise ValueError(
        f'`num_environments` must be at most {limit} for the domain'
        f' {type(domain).__name__}, got {num_environments}.'
    )


class RolloutActor:
  """Makes D decisions in each of P environments; one call decides for all.

  A rollout starts with a reset of every environment. When an episode ends, its
  environment resets at once and waits until the others have played their
  chunks. The last decision of an unfinished episode is bootstrapped, as at a
  time-out.
  """

  def __init__(
      self,
      domain,
      agent,
      *,
      num_environments: int,
      num_decisions: int,
      seed: int,
  ):
    """Makes the environments.

    Args:
      domain: `Domain`; its scale and bias are applied to the rewards.
      agent: `DPPOAgent` that explores.
      num_environments: P.
      num_decisions: D.
      seed: Seed of all start states and draws.

    Raises:
      ValueError: If the domain has fewer than P environments.
    """
    check(domain, num_environments)
    self._domain = domain
    self._agent = agent
    self._num_decisions = num_decisions
    self._seed = seed
    self._environments = [
        domain.make_environment(seed, evaluation=False)
        for _ in range(num_environments)
    ]

  def act(self, turn: int) -> ActedRollout:
    """Collects rollout `turn`, given by the weights, the seed and `turn`."""
    with closing.abandoned_on_error(self._environments):
      return domain_lib.act_until_kept(lambda: self._act(turn))

  def close(self) -> None:
    """Closes the environments."""
    closing.close(self._domain, self._environments)

  def _act(self, turn):
    for_starts, for_draws = np.random.SeedSequence([self._seed, turn]).spawn(2)
    starts = for_starts.generate_state(len(self._environments))
    draws = for_draws.generate_state(2 * self._num_decisions).view(np.int32)
    players = [
        _Player(environment, self._domain, self._agent, int(start))
        for environment, start in zip(self._environments, starts)
    ]
    decisions = []
    for seed in draws.reshape(-1, 2):
      observation = _stack([p.observation for p in players])
      action, chain = self._agent.draw(observation, tf.constant(seed))
      chunks = action.numpy().reshape(
          [len(players), self._agent.chunk_length, -1]
      )
      played = [p.play(chunk) for p, chunk in zip(players, chunks)]
      after, reward, discount, is_last = zip(*played)
      decisions.append(
          dppo_agent.Rollout(
              observation,
              _stack(after),
              chain,
              tf.constant(reward, tf.float32),
              tf.constant(discount, tf.float32),
              tf.constant(is_last),
          )
      )
    for environment in self._environments:
      environment.abandon()  # A reset follows, perhaps much later.
    # Nothing follows the last decision.
    decisions[-1] = decisions[-1]._replace(
        is_last=tf.ones_like(decisions[-1].is_last)
    )
    return ActedRollout(
        tf.nest.map_structure(lambda *rows: tf.stack(rows), *decisions),
        sum(p.num_steps for p in players),
        [length for p in players for length in p.lengths],
        [success for p in players for success in p.successes],
    )


class _Player:
  """One environment of a rollout.

  Attributes:
    observation: Current observation.
    num_steps: Environment steps so far.
    lengths: Environment steps of each episode that ended.
    successes: Whether each episode that ended succeeded at any step.
  """

  def __init__(self, environment, domain, agent, seed):
    self._environment = frame_stack.StackedFrames(
        environment, agent.num_frames
    )
    self._is_success = environment.is_success
    self._domain = domain
    self._gamma = agent.gamma
    self.num_steps = 0
    self.lengths = []
    self.successes = []
    self._length, self._succeeded = 0, False
    environment.seed(seed)
    self._reset()

  def play(self, chunk: np.ndarray):
    """Plays a chunk `[H, A]`, or its first actions if the episode ends.

    Returns:
      The observation after the chunk, the chunk's reward and discount as
      `Rollout` defines them, and whether the episode ended.
    """
    reward, discount = 0.0, 1.0
    for k, action in enumerate(chunk):
      time_step = self._environment.step(action)
      scaled = self._domain.reward_scale * float(time_step.reward)
      reward += self._gamma**k * (scaled + self._domain.reward_bias)
      discount *= float(time_step.discount)
      self.num_steps += 1
      self._length += 1
      self._succeeded |= self._is_success()
      if time_step.last():
        break
    after = _copy(time_step.observation)
    if time_step.last():
      self.lengths.append(self._length)
      self.successes.append(self._succeeded)
      self._reset()
    else:
      self.observation = after
    return after, reward, self._gamma**k * discount, time_step.last()

  def _reset(self) -> None:
    self.observation = _copy(self._environment.reset().observation)
    self._length = 0
    self._succeeded = False


def _copy(observation: types.Nest) -> types.Nest:
  # An environment may reuse its arrays.
  return tf.nest.map_structure(np.array, observation)


def _stack(observations) -> types.Nest:
  return tf.nest.map_structure(
      lambda *rows: tf.constant(np.stack(rows)), *observations
  )
