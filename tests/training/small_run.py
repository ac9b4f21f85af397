"""A small session on the smallest maze, for tests."""

import tensorflow as tf
from tf_agents.specs import tensor_spec

from parl_tf.critics import iql
from parl_tf.datasets import generate
from parl_tf.datasets import reading
from parl_tf.domains import pointmaze
from parl_tf.policies import gaussian
from parl_tf.replay import episode_writer
from parl_tf.replay import memory_experience
from parl_tf.training import session as session_lib
from parl_tf.training import sources
from tests.agents import small_agent

EPISODE_STEPS = 3
_OBSERVATION_SPEC = tf.TensorSpec([4], tf.float32, 'observation')
_ACTION_SPEC = tensor_spec.BoundedTensorSpec(
    [2], tf.float32, -1.0, 1.0, 'action'
)


class RecordingExperience(memory_experience.MemoryExperience):
  """Records the requests that it gets.

  Attributes:
    requests: `(train_step, num_steps, request)` of each iterator.
  """

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.requests = []

  def iterate(self, train_step, num_steps, request):
    self.requests.append((train_step, num_steps, request))
    return super().iterate(train_step, num_steps, request)


def make_domain(max_episode_steps=EPISODE_STEPS):
  """Returns a small maze with short episodes."""
  return pointmaze.PointMaze(
      size='UMaze', min_start_distance=2, max_episode_steps=max_episode_steps
  )


def make_agent(seed=0):
  """Returns an agent of fast parts, whose search only ranks."""
  return small_agent.make_agent(
      iql.IQLCritic,
      gaussian.GaussianPolicy,
      observation_spec=_OBSERVATION_SPEC,
      action_spec=_ACTION_SPEC,
      search=small_agent.make_search(num_samples=2, num_gradient_steps=0),
      seed=seed,
  )


def make_session(
    root_dir,
    *,
    domain=None,
    agent=None,
    seed=0,
    num_evaluation_episodes=2,
    checkpoint_seconds=1e6,
    **kwargs,
):
  """Returns a session with `kwargs`; it has a `RecordingExperience`."""
  domain = domain or make_domain()
  agent = agent or make_agent(seed)
  source = sources.LocalSource(RecordingExperience, domain, agent, seed)
  writer = episode_writer.EpisodeWriter(
      gamma=0.99,
      reward_scale=domain.reward_scale,
      reward_bias=domain.reward_bias,
      never_succeeds_value=None,
      sink=source.experience,
  )
  return session_lib.Session(
      root_dir,
      seed=seed,
      domain=domain,
      agent=agent,
      source=source,
      writers={'offline': writer, 'online': writer},
      num_evaluation_episodes=num_evaluation_episodes,
      checkpoint_seconds=checkpoint_seconds,
      **kwargs,
  )


def make_episodes(path, num_steps=40):
  """Records episodes of the domain's own controller at `path`."""
  domain = make_domain()
  generate.record_dataset(
      path, *domain.make_recorder(0), num_steps=num_steps, seed=0
  )
  return list(reading.read_episodes(path))
