"""Collects whole online episodes, one after another."""

from typing import List, Optional

import numpy as np
from tf_agents.environments import dm_control_wrapper
from tf_agents.policies import py_tf_eager_policy
from tf_agents.train import actor
from tf_agents.trajectories import time_step as ts

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.domains import closing
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import episode_writer
from parl_tf.training import environment_check
from parl_tf.training import time_limits


class EpisodeActor:
  """Collects whole episodes in one environment with a TF-Agents actor."""

  def __init__(
      self,
      domain,
      agent: parl_agent.PARLAgent,
      seed: int,
      collector: Optional[int] = None,
  ):
    """Makes the environment; the first episode resets it.

    Args:
      domain: `Domain` of the environment.
      agent: Agent whose collect policy acts.
      seed: Integer seed of the run.
      collector: Number of the collector; None if this process trains too.
    """
    self._seed = [seed] if collector is None else [seed, collector]
    self._domain = domain
    self._environment = environment_check.make(domain, seed, evaluation=False)
    self._time_limits = time_limits.TimeLimits(domain)
    self._num_frames = agent.num_frames
    self._policy = agent.collect_policy
    self._train_step = agent.train_step_counter
    self._recorder = episode_writer.EpisodeRecorder(
        self._receive, self._environment.is_success, agent.num_frames
    )
    self._actor: Optional[actor.Actor] = None
    self._episodes: List[types.Episode] = []

  def act(self, number: int, attempt: int = 0) -> types.Episode:
    """Collects an episode, given by the weights, the seed and the arguments.

    Args:
      number: Number of the episode.
      attempt: Number of its earlier attempts that were of no use.
    """
    entropy = [*self._seed, number, *([attempt] if attempt else [])]
    with closing.abandoned_on_error([self._environment]):
      episode = domain_lib.act_until_kept(lambda: self._act(number, entropy))
    self._time_limits.see(episode)
    return episode

  def close(self) -> None:
    """Closes the environment."""
    closing.close(self._domain, [self._environment])

  def _act(self, number, entropy):
    state = np.random.SeedSequence(entropy).generate_state(3)
    self._environment.seed(int(state[0]))
    self._policy.set_seed(state[1:].astype(np.uint32).view(np.int32))
    self._recorder.episode_id = number
    self._recorder.policy_version = int(self._train_step.numpy())
    if self._actor is None:
      self._actor = self._make_actor()  # Resets the environment.
    else:
      self._actor.reset()
    self._actor.run()
    return self._episodes.pop()

  def _make_actor(self):
    return actor.Actor(
        _ResetOnRequest(
            frame_stack.StackedFrames(self._environment, self._num_frames)
        ),
        py_tf_eager_policy.PyTFEagerPolicy(
            self._policy, use_tf_function=not self._policy.is_served
        ),
        self._train_step,
        episodes_per_run=1,
        observers=[self._recorder],
    )

  def _receive(self, episode):
    self._episodes.append(episode)


class _ResetOnRequest(dm_control_wrapper.DmControlWrapper):
  """Starts an episode only on `reset`, not on a step after the last one.

  The driver takes such a step to pass on the last observation. Without this
  class, that step would reset the environment: a robot would move home, and its
  scene would be rearranged, twice per episode.
  """

  def _step(self, action):
    current = self.current_time_step()
    if current.is_last():
      return ts.restart(current.observation)
    return super()._step(action)
