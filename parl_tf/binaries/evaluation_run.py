"""Evaluates a policy, and describes the result as text or JSON."""

import contextlib
import importlib.util
from typing import Any, Dict, Optional, Sequence, Tuple

from absl import logging
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.binaries import exported_policy
from parl_tf.binaries import third_party_messages
from parl_tf.binaries import video
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import episode_log
from parl_tf.training import evaluation
from parl_tf.training import evaluation_result
from parl_tf.training import failed_starts


def exported_act(
    path: str, gin_files: Sequence[str], gin_bindings: Sequence[str] = ()
) -> Tuple[evaluation.Act, domain_lib.Domain]:
  """Returns an act that calls a SavedModel, and the domain of the gin files.

  Args:
    path: Directory of the SavedModel.
    gin_files: Gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.

  Raises:
    ValueError: If there is no SavedModel, or it does not fit the domain.
  """
  _configure(gin_files, gin_bindings)
  domain = domain_lib.select_domain()
  return exported_policy.ExportedPolicy(path, domain), domain


def served_act(
    address: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    temperature: float = 1.0,
) -> Tuple[evaluation.Act, domain_lib.Domain]:
  """Returns an act that asks a server, and the domain of the gin files.

  Args:
    address: ws:// URL of the policy's server.
    gin_files: Gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.
    temperature: Scale of the policy's noise.

  Raises:
    ConnectionError: If the server does not answer.
  """
  configure_with_policy(gin_files, gin_bindings)
  domain = domain_lib.select_domain()
  return _alone(address, domain, temperature), domain


def configure_with_policy(
    gin_files: Sequence[str], gin_bindings: Sequence[str] = ()
) -> None:
  """Parses a gin configuration that may also bind a served policy.

  Args:
    gin_files: Gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.
  """
  # Imported here: these modules need TF-Agents. Once it is parsed, a
  # configuration accepts no new configurables.
  import parl_tf.policies.remote  # noqa: F401
  import parl_tf.training.served_acting  # noqa: F401

  _configure(gin_files, gin_bindings)


def other_act(
    policy: str, domain: domain_lib.Domain, is_served: bool, temperature: float
) -> evaluation.Act:
  """Returns an act of another policy on the same domain.

  Args:
    policy: Directory of a SavedModel, or ws:// URL of a server.
    domain: The task.
    is_served: Whether it is a URL.
    temperature: Scale of the noise of a served policy.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If there is no SavedModel, or it does not fit the domain.
  """
  if is_served:
    return _alone(policy, domain, temperature)
  return exported_policy.ExportedPolicy(policy, domain)


def searched_act(
    address: str,
    root_dir: str,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    checkpoint_name: str = 'last',
) -> Tuple[evaluation.Act, domain_lib.Domain]:
  """Returns an act that searches a served policy's samples by a run's critic.

  Args:
    address: ws:// URL of the policy's server.
    root_dir: The run's directory. Afterwards, gin holds its configuration.
    gin_files: Gin files that override the configuration of the run.
    gin_bindings: Gin bindings, applied after the files.
    checkpoint_name: Which of the run's critics; see `restored_run.restore`.

  Returns:
    The act, and the domain of the run.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, or the
      run has no critic or no search.
  """
  # Imported here: these modules need TF-Agents.
  from parl_tf.binaries import restored_run
  import parl_tf.policies.remote  # noqa: F401
  from parl_tf.training import served_acting

  third_party_messages.silence_first_compilation()
  agent, domain = restored_run.restore(
      root_dir,
      gin_bindings,
      gin_files=gin_files,
      searches=True,
      checkpoint_name=checkpoint_name,
  )
  act = served_acting.act_searched(address, domain, agent)
  restored_run.warn_of_other_version(
      root_dir, agent, address, act.version, checkpoint_name
  )
  return act, domain


def live_act(
    root_dir: str,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    checkpoint_name: str = 'last',
) -> Tuple[evaluation.Act, domain_lib.Domain]:
  """Returns an act of a run's checkpoint, with search, and its domain.

  Args:
    root_dir: The run's directory. Afterwards, gin holds its configuration.
    gin_files: Gin files that override the configuration of the run.
    gin_bindings: Gin bindings, applied after the files.
    checkpoint_name: See `restored_run.restore`.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, or the
      run has no critic or no search.
  """
  # Imported here: these modules need TF-Agents and Matplotlib.
  from parl_tf.binaries import restored_run
  from parl_tf.binaries import watched_search

  third_party_messages.silence_first_compilation()
  agent, domain = restored_run.restore(
      root_dir,
      gin_bindings,
      gin_files=gin_files,
      searches=True,
      checkpoint_name=checkpoint_name,
  )
  return watched_search.WatchedSearch(agent), domain


class PolicyAlone:
  """Acts by the policy of a run, without its search.

  Attributes:
    num_frames: Number of frames in each observation that it gets.
    policy: The `PARLPolicy`.
  """

  def __init__(self, agent):
    """Initializes the act of a restored agent."""
    self.num_frames = agent.num_frames
    self.policy = agent.base_policy
    self._shape = [-1, agent.chunk_length, *agent.action_spec.shape]

  def __call__(self, observation: types.Nest, seed: np.ndarray) -> np.ndarray:
    """Returns chunks `[B, H, A]` for a nest of `[B, ...]` and a seed `[2]`."""
    observation = tf.nest.map_structure(tf.constant, observation)
    actions = self.policy.act(observation, tf.constant(seed))
    return actions.numpy().reshape(self._shape)


def alone_act(
    root_dir: str,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    checkpoint_name: str = 'last',
    temperature: Optional[float] = None,
) -> Tuple[evaluation.Act, domain_lib.Domain]:
  """Returns an act of the policy of a run's checkpoint, and its domain.

  Args:
    root_dir: The run's directory. Afterwards, gin holds its configuration.
    gin_files: Gin files that override the configuration of the run.
    gin_bindings: Gin bindings, applied after the files.
    checkpoint_name: See `restored_run.restore`.
    temperature: Scale of the policy's noise; None takes that of the run's
      search for evaluation.

  Raises:
    ValueError: If the directory contains no run or no such checkpoint, or
      another process serves the policy.
  """
  # Imported here: it needs TF-Agents.
  from parl_tf.binaries import restored_run

  third_party_messages.silence_first_compilation()
  bindings = list(gin_bindings)
  if temperature is not None:
    bindings.append(f'evaluation/Search.temperature = {temperature}')
  agent, domain = restored_run.restore(
      root_dir, bindings, gin_files=gin_files, checkpoint_name=checkpoint_name
  )
  if agent.generative_policy is not None and agent.generative_policy.is_served:
    raise ValueError(
        f'The policy of {root_dir} is served by another process: give its'
        ' address, --policy ws://..., without --root_dir.'
    )
  return PolicyAlone(agent), domain


def follow(
    address: str,
    root_dir: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    *,
    num_episodes: int,
    seed: int,
) -> int:
  """Evaluates a learner's weights until training ends.

  Args:
    address: host:port of the replay service.
    root_dir: Directory to write the results to.
    gin_files: Gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.
    num_episodes: Episodes per evaluation.
    seed: Seed of start states and policy samples.

  Returns:
    The number of evaluations.
  """
  # Imported here: these modules need TF-Agents and Reverb. Once it is parsed, a
  # configuration accepts no new configurables.
  from parl_tf.distributed import evaluator_role
  from parl_tf.training import run_directory

  _configure(gin_files, gin_bindings)
  with run_directory.hold(root_dir):
    return evaluator_role.follow(root_dir, seed, address, num_episodes)


def play(
    act: evaluation.Act,
    domain: domain_lib.Domain,
    *,
    num_episodes: int,
    seed: int,
    video_file: Optional[str] = None,
    directory: Optional[str] = None,
) -> evaluation_result.EvaluationResult:
  """Plays the episodes of an evaluation.

  Args:
    act: The policy.
    domain: The task.
    num_episodes: Number of episodes.
    seed: Seed of start states and policy samples.
    video_file: File for a video of the first episode; None writes none.
    directory: New directory for a log of the episodes, which is then a dataset;
      None writes none. An interruption leaves it with those that have ended.
  """
  evaluator = evaluation.Evaluator(
      domain, num_episodes=num_episodes, seed=seed
  )
  options: Dict[str, Any] = dict(num_frames=getattr(act, 'num_frames', 1))
  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(evaluator))
    if directory:
      options['keep'] = stack.enter_context(_logged_episodes(directory))
    if not video_file:
      return evaluator.run(act, **options)
    make_panel = getattr(act, 'make_panel', None)
    with video.VideoRecorder(video_file, make_panel) as recorder:
      result = evaluator.run(act, recorder, **options)
  logging.info('Wrote %s.', video_file)
  return result


@contextlib.contextmanager
def _logged_episodes(directory):
  """Yields a function that adds an episode to a new log."""
  log = episode_log.EpisodeLog(directory)
  try:
    yield log.append
  finally:
    logging.info('Wrote %d episodes to %s.', len(log), directory)


def summarize(
    policy: str,
    seed: int,
    result: evaluation_result.EvaluationResult,
    version: str = '',
) -> Dict[str, Any]:
  """Returns the object that `--json` prints.

  Args:
    policy: Directory of the SavedModel, or URL of the server.
    seed: Seed of the evaluation.
    result: Result of the evaluation.
    version: Version of the server's weights; '' if the policy is not served.
  """
  difference = failed_starts.find(result.episodes, result.successes)
  return {
      'policy': policy,
      'policy_version': version or None,
      'seed': seed,
      'num_episodes': len(result.episodes),
      'success_rate': result.success_rate,
      'success_interval': list(result.success_interval),
      'score': result.score,
      'steps_to_success': result.steps_to_success,
      'mean_return': result.mean_return,
      'num_environment_steps': result.num_environment_steps,
      'successes': result.successes.tolist(),
      'failed_starts': difference and difference._asdict(),
      'episode_lengths': [e.num_steps for e in result.episodes],
      # To compare the episodes of two machines. Actions are in [-1, 1].
      'start_observations': [
          tf.nest.map_structure(lambda x: x[0].tolist(), e.observation)
          for e in result.episodes
      ],
      'first_actions': [e.action[0].tolist() for e in result.episodes],
  }


def describe(
    result: evaluation_result.EvaluationResult, version: str = ''
) -> str:
  """Returns a line with the results; another if failed starts differ.

  Args:
    result: Result of the evaluation.
    version: See `summarize`.
  """
  low, high = result.success_interval
  steps = 'no steps to success'
  if result.steps_to_success is not None:
    steps = f'{result.steps_to_success:.1f} steps to success'
  difference = failed_starts.find(result.episodes, result.successes)
  return (
      f'success rate {result.success_rate:.3f}'
      f' (95 % interval {low:.3f} to {high:.3f}),'
      f' score {result.score:.1f},'
      f' {result.successes.sum()} of {len(result.episodes)} episodes,'
      f' {steps}, return {result.mean_return:.1f},'
      f' {result.num_environment_steps} environment steps'
      f'{version and ", version "}{version}'
      + (f'\n{difference.describe()}' if difference else '')
  )


def _alone(address, domain, temperature=1.0):
  """Returns an act of a served policy, of the gin configuration's chunks."""
  # Imported here: it needs TF-Agents.
  from parl_tf.training import served_acting

  # As many actions of a chunk as a run with this configuration plays.
  chunk_length = gin.get_bindings('build_agent').get('chunk_length')
  return served_acting.act_alone(address, domain, temperature, chunk_length)


def _configure(gin_files, gin_bindings) -> None:
  # A run's gin files also configure training and import modules that need
  # TF-Agents. Without TF-Agents, evaluation ignores these bindings.
  can_import = importlib.util.find_spec('tf_agents') is not None
  configs.parse(
      gin_files,
      gin_bindings,
      skip_unknown=not can_import,
      import_names=can_import,
  )
  third_party_messages.silence_first_compilation()
