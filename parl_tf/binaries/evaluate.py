r"""Evaluates a policy in the environment that gin files describe.

  parl-evaluate --policy runs/quickstart/policies/greedy_policy \
    --gin_file quickstart.gin

`--follow HOST:PORT --root_dir DIR` instead evaluates a learner's weights as the
replay service publishes them, until training ends.

A served policy is given by its URL. With `--root_dir`, the critic of that run
searches the policy's samples, and the configuration of the run applies:

  parl-evaluate --policy ws://127.0.0.1:8000 --gin_file quickstart.gin
  parl-evaluate --policy ws://127.0.0.1:8000 --root_dir runs/quickstart

To evaluate a SavedModel, this program needs TensorFlow but neither TF-Agents
nor Reverb: it only loads the model and calls its signature `serving_default`.
"""

import contextlib
import importlib.util
import json
import os
import sys
from typing import Any, Mapping, Sequence, Tuple, Type

from absl import app
from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import third_party_messages
from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation

_SIGNATURE = 'serving_default'
_SEED_INPUT = 'seed'
_ACTION_OUTPUT = 'action'
# Output of policies that predict several actions at once, `[B, H, A]`.
_CHUNK_OUTPUT = 'chunk'
# Input name of a single-array observation; a dict has one input per key.
_OBSERVATION_INPUT = 'observation'
# Rounding error of mapping actions in [-1, 1] to raw units and back.
_ROUNDING = 1e-5
_FRAMES_PER_SECOND = 10
_SERVED = ('ws://', 'wss://')


class ExportedPolicy:
  """Adapts a SavedModel to `parl_tf.training.evaluation.Act`."""

  def __init__(self, path: str, domain: Any):
    """Loads the SavedModel and checks its signature against the domain.

    Args:
      path: The directory of the SavedModel.
      domain: The `parl_tf.domains.domain.Domain` that the policy acts in.

    Raises:
      ValueError: If there is no SavedModel, or its signature does not match the
        domain's observation or action.
    """
    if not tf.saved_model.contains_saved_model(path):
      raise ValueError(
          f'`policy` must be the directory of a SavedModel, got {path!r}, which'
          + (
              f' holds {sorted(os.listdir(path))}.'
              if os.path.isdir(path)
              else ' is not a directory.'
          )
      )
    self._path = path
    # Keeps the variables of the signature alive.
    self._model = tf.saved_model.load(path)
    if _SIGNATURE not in self._model.signatures:
      raise ValueError(
          f'{path} must have the signature {_SIGNATURE!r}, got'
          f' {sorted(self._model.signatures)}.'
      )
    self._signature = self._model.signatures[_SIGNATURE]
    self._check_inputs(domain.observation_spec())
    self._check_output(domain.action_spec())
    low, high = (np.asarray(x, np.float64) for x in domain.raw_action_bounds)
    self._center = (high + low) / 2.0
    self._half_range = (high - low) / 2.0

  def __call__(self, observation: types.Nest, seed: np.ndarray) -> np.ndarray:
    """Returns actions `[B, A]`, or chunks `[B, H, A]`, scaled to [-1, 1].

    Only rounding errors are clipped: if the policy exceeds the raw bounds, so
    do the returned actions.

    Args:
      observation: Raw observations `[B, ...]`, or a flat dict of them.
      seed: `[2]` int32.
    """
    inputs = {k: tf.constant(v) for k, v in _by_input(observation).items()}
    raw = self._signature(**inputs, **{_SEED_INPUT: tf.constant(seed)})
    raw = raw.get(_CHUNK_OUTPUT, raw[_ACTION_OUTPUT]).numpy().astype(np.float64)
    action = (raw - self._center) / self._half_range
    inside = np.abs(action) <= 1.0 + _ROUNDING
    return np.where(inside, np.clip(action, -1.0, 1.0), action).astype(
        np.float32
    )

  def _check_inputs(self, observation_spec):
    wanted = {
        name: tf.TensorSpec([None, *spec.shape], spec.dtype)
        for name, spec in _by_input(observation_spec).items()
    }
    wanted[_SEED_INPUT] = tf.TensorSpec([2], tf.int32)
    _, seen = self._signature.structured_input_signature
    if sorted(seen) != sorted(wanted):
      raise ValueError(
          f'{self._path}: signature {_SIGNATURE!r} must have the inputs'
          f' {sorted(wanted)} of the domain, got {sorted(seen)}.'
      )
    for name, spec in wanted.items():
      if not seen[name].shape.is_compatible_with(spec.shape) or (
          seen[name].dtype != spec.dtype
      ):
        raise ValueError(
            f'{self._path}: input {name!r} of signature {_SIGNATURE!r} must'
            f' have shape {spec.shape} and dtype {spec.dtype.name} as in the'
            f' domain, got {seen[name].shape} and {seen[name].dtype.name}.'
        )

  def _check_output(self, action_spec):
    wanted = tf.TensorShape([None, *action_spec.shape])
    outputs = self._signature.structured_outputs
    if _ACTION_OUTPUT not in outputs:
      raise ValueError(
          f'{self._path}: signature {_SIGNATURE!r} must have the output'
          f' {_ACTION_OUTPUT!r}, got {sorted(outputs)}.'
      )
    shape = outputs[_ACTION_OUTPUT].shape
    if not shape.is_compatible_with(wanted):
      raise ValueError(
          f'{self._path}: output {_ACTION_OUTPUT!r} of signature'
          f' {_SIGNATURE!r} must have shape {wanted} as in the domain, got'
          f' {shape}.'
      )


class VideoRecorder(contextlib.AbstractContextManager):
  """Evaluation observer that writes the first episode as a video."""

  def __init__(self, path: str):
    """Opens the file.

    Args:
      path: Path of the video; its extension, such as `.mp4`, sets the format.

    Raises:
      ValueError: If a package needed to write videos is missing.
    """
    for package in ('imageio', 'imageio_ffmpeg'):
      if importlib.util.find_spec(package) is None:
        raise ValueError(
            f'`video` needs the package {package}, which is not installed:'
            ' `pip install imageio imageio-ffmpeg`.'
        )
    # Imported here: only videos need it.
    import imageio

    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    self._path = path
    self._writer = imageio.get_writer(path, fps=_FRAMES_PER_SECOND)
    self._is_over = False

  def __call__(self, environments, running):
    # Also records the final state of the episode.
    if not self._is_over:
      self._writer.append_data(_render(environments[0]))
    self._is_over = not running[0]

  def __exit__(self, *unused_exception):
    self._writer.close()


def summarize(
    policy: str, seed: int, result: evaluation.EvaluationResult
) -> Mapping[str, Any]:
  """Returns the object that `--json` prints.

  Args:
    policy: Directory of the SavedModel, or URL of the server.
    seed: Seed of the evaluation.
    result: Result of the evaluation.
  """
  return {
      'policy': policy,
      'seed': seed,
      'num_episodes': len(result.episodes),
      'success_rate': result.success_rate,
      'success_interval': list(result.success_interval),
      'score': result.score,
      'steps_to_success': result.steps_to_success,
      'mean_return': result.mean_return,
      'num_environment_steps': result.num_environment_steps,
      'successes': result.successes.tolist(),
      'episode_lengths': [e.num_steps for e in result.episodes],
      # To compare the episodes of two machines. Actions are in [-1, 1].
      'start_observations': [
          tf.nest.map_structure(lambda x: x[0].tolist(), e.observation)
          for e in result.episodes
      ],
      'first_actions': [e.action[0].tolist() for e in result.episodes],
  }


def main(arguments):
  """Evaluates the policy selected by the flags."""
  if len(arguments) > 1:
    raise app.UsageError(f'Unknown arguments: {arguments[1:]}.')
  options = flags.FLAGS
  if bool(options.policy) == bool(options.follow):
    raise app.UsageError('Exactly one of --policy and --follow must be given.')
  if options.follow and not options.root_dir:
    raise app.UsageError('--follow needs --root_dir.')
  is_served = bool(options.policy) and options.policy.startswith(_SERVED)
  if is_served and options.root_dir:
    if options.gin_file:
      raise app.UsageError(
          '--root_dir supplies the configuration of the run: omit --gin_file.'
      )
    third_party_messages.silence_first_compilation()
    act, domain = searched_act(
        options.policy, options.root_dir, options.gin_bindings
    )
    _evaluate(options, act, domain)
    return
  if not options.gin_file:
    raise app.UsageError('--gin_file must be given.')
  if is_served:
    # Imported so that gin can bind the arguments of `RemotePolicy`.
    import parl_tf.policies.remote  # noqa: F401
  configs.add_search_path()
  configs.parse(
      options.gin_file,
      options.gin_bindings,
      # A run's gin files also configure training and import modules that need
      # TF-Agents. Without TF-Agents, evaluation ignores these bindings.
      skip_unknown=importlib.util.find_spec('tf_agents') is None,
  )
  third_party_messages.silence_first_compilation()
  if options.follow:
    _follow(options)
    return
  domain = domain_lib.select_domain()
  if is_served:
    # Imported here: this module needs TF-Agents.
    from parl_tf.training import served_acting

    act = served_acting.act_alone(options.policy, domain)
  else:
    act = ExportedPolicy(options.policy, domain)
  _evaluate(options, act, domain)


def searched_act(
    address: str, root_dir: str, gin_bindings: Sequence[str] = ()
) -> Tuple[evaluation.Act, Any]:
  """Returns an act that searches a served policy's samples by a run's critic.

  Args:
    address: ws:// URL of the policy's server.
    root_dir: The run's directory. Afterwards, gin holds its configuration.
    gin_bindings: Gin bindings that override the configuration of the run.

  Returns:
    The act, and the domain of the run.

  Raises:
    ValueError: If the directory contains no run or no checkpoint, or the run
      has no critic or no search.
  """
  # Imported here: these modules need TF-Agents.
  from parl_tf.binaries import export
  import parl_tf.policies.remote  # noqa: F401
  from parl_tf.training import served_acting

  agent = export.restore_agent(root_dir, gin_bindings)
  domain = domain_lib.select_domain()
  return served_acting.act_searched(address, domain, agent), domain


def _evaluate(options, act, domain):
  """Plays the episodes and prints the result."""
  evaluator = evaluation.Evaluator(
      domain, num_episodes=options.num_episodes, seed=options.seed
  )
  with contextlib.ExitStack() as stack:
    observer = None
    if options.video:
      observer = stack.enter_context(VideoRecorder(options.video))
    result = evaluator.run(act, observer)
  if options.video:
    logging.info('Wrote %s.', options.video)
  if options.json:
    print(json.dumps(summarize(options.policy, options.seed, result)))
  else:
    low, high = result.success_interval
    steps = 'no steps to success'
    if result.steps_to_success is not None:
      steps = f'{result.steps_to_success:.1f} steps to success'
    print(
        f'success rate {result.success_rate:.3f}'
        f' (95 % interval {low:.3f} to {high:.3f}),'
        f' score {result.score:.1f},'
        f' {result.successes.sum()} of {len(result.episodes)} episodes,'
        f' {steps}, return {result.mean_return:.1f},'
        f' {result.num_environment_steps} environment steps'
    )


def _follow(options):
  # Imported here: these modules need TF-Agents and Reverb.
  from parl_tf.distributed import evaluator_role
  from parl_tf.training import run_directory

  with run_directory.hold(options.root_dir):
    num_evaluations = evaluator_role.follow(
        options.root_dir, options.seed, options.follow, options.num_episodes
    )
  print(f'{num_evaluations} evaluations: {options.root_dir}/metrics.csv')


def run() -> None:
  """Console entry point."""
  console.run('parl-evaluate', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'policy', None, 'Directory of the SavedModel, or ws:// URL of a server.'
  )
  flags.DEFINE_string(
      'follow', None, 'host:port of the replay service of the learner.'
  )
  flags.DEFINE_string(
      'root_dir',
      None,
      'Directory of the run whose critic searches the samples of a served'
      ' policy; with --follow, directory to write the results to.',
  )
  flags.DEFINE_multi_string(
      'gin_file', None, 'A gin file; later files override earlier ones.'
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )
  flags.DEFINE_integer(
      'num_episodes', 32, 'Number of episodes per evaluation.', lower_bound=1
  )
  flags.DEFINE_integer(
      'seed', 0, 'Seed of start states and policy samples.', lower_bound=0
  )
  flags.DEFINE_string('video', None, 'Video file of the first episode (.mp4).')
  flags.DEFINE_bool('json', False, 'Prints one JSON object instead of a line.')


def _by_input(nest: types.Nest) -> Mapping[str, Any]:
  """Returns the observation leaves, keyed by signature input name."""
  return nest if isinstance(nest, Mapping) else {_OBSERVATION_INPUT: nest}


def _render(environment) -> np.ndarray:
  try:
    return environment.render()
  except NotImplementedError as error:
    raise ValueError(f'`video` is not possible: {error}') from error
  except _drawing_errors() as error:
    raise ValueError(
        f'`video` is not possible because rendering failed: {error!r}.'
        ' Rendering without a display needs the system library OSMesa or EGL'
        ' (Debian: libosmesa6 or libegl1) and MUJOCO_GL=osmesa or'
        f' MUJOCO_GL=egl; MUJOCO_GL is {os.environ.get("MUJOCO_GL")!r}.'
    ) from error


def _drawing_errors() -> Tuple[Type[Exception], ...]:
  """Returns the errors of MuJoCo and PyOpenGL if no renderer is available."""
  errors = (ImportError, AttributeError, RuntimeError, OSError)
  # Not every domain uses MuJoCo; a domain that does has imported it.
  mujoco = sys.modules.get('mujoco')
  return errors if mujoco is None else (*errors, mujoco.FatalError)


if __name__ == '__main__':
  run()
