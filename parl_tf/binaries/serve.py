"""Serves an exported policy, or a served policy steered by a run's critic.

  parl-serve --policy runs/quickstart/policies/greedy_policy
  parl-serve --base ws://127.0.0.1:8000 --root_dir runs/critic --port 8001

Clients use openpi's WebSocket protocol and do not need TensorFlow.
"""

import os
from typing import Any, Callable, Mapping, Sequence, Tuple

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import console
from parl_tf.binaries import evaluate
from parl_tf.binaries import third_party_messages
from parl_tf.serving import policy_spec
from parl_tf.serving import server

KEY_VARIABLE = 'PARL_SERVER_KEY'
"""Environment variable with the API key that clients must send, if set."""

_SIGNATURE = 'serving_default'
_SEED = 'seed'

Act = Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]
"""Maps raw observations and an int32 `[2]` seed to raw actions `[B, H, A]`.

The observations are arrays `[B, ...]`, keyed by name.
"""


def exported_policy(path: str) -> Tuple[Act, policy_spec.PolicySpec]:
  """Loads a SavedModel; returns its act function and spec.

  Args:
    path: Directory of a SavedModel that a run or `parl-export` wrote.

  Raises:
    OSError: If there is no SavedModel.
    ValueError: If it lacks the signature `serving_default`.
  """
  model = tf.saved_model.load(path)
  if _SIGNATURE not in model.signatures:
    raise ValueError(
        f'{path} must have the signature {_SIGNATURE!r}, got '
        f'{sorted(model.signatures)}.'
    )
  signature = model.signatures[_SIGNATURE]
  _, inputs = signature.structured_input_signature
  outputs = signature.structured_outputs
  chunk_length = outputs['chunk'].shape[1] if 'chunk' in outputs else 1
  spec = policy_spec.PolicySpec(
      {
          name: policy_spec.ArraySpec(tuple(x.shape[1:]), x.dtype.name)
          for name, x in inputs.items()
          if name != _SEED
      },
      action_size=outputs['action'].shape[-1],
      chunk_length=chunk_length,
  )

  def act(observation, seed):
    # The reference to `model` keeps its variables alive.
    tensors = {name: tf.constant(x) for name, x in observation.items()}
    answer = model.signatures[_SIGNATURE](**tensors, seed=tf.constant(seed))
    if 'chunk' in answer:
      return answer['chunk'].numpy()
    return answer['action'].numpy()[:, np.newaxis]

  return act, spec


def steered_policy(
    base: str, root_dir: str, gin_bindings: Sequence[str] = ()
) -> Tuple[Act, policy_spec.PolicySpec]:
  """Returns the act function and spec of a policy searched by a run's critic.

  Args:
    base: ws:// URL of the policy's server.
    root_dir: Directory of the run.
    gin_bindings: Gin bindings that override the configuration of the run.

  Raises:
    ConnectionError: If the server does not answer.
    ValueError: If the directory contains no run or no checkpoint, or the run
      has no critic or no search.
  """
  scaled_act, domain = evaluate.searched_act(base, root_dir, gin_bindings)
  low, high = (np.asarray(x, np.float32) for x in domain.raw_action_bounds)
  specs = domain.observation_spec()
  is_single = not isinstance(specs, Mapping)
  if is_single:
    specs = {policy_spec.SINGLE: specs}
  observation = {
      name: policy_spec.ArraySpec(tuple(x.shape), np.dtype(x.dtype).name)
      for name, x in specs.items()
  }

  def act(observation: Mapping[str, Any], seed: np.ndarray) -> np.ndarray:
    nest: types.Nest = observation
    if is_single:
      nest = observation[policy_spec.SINGLE]
    return (high + low) / 2.0 + (high - low) / 2.0 * scaled_act(nest, seed)

  zeros = {
      name: np.zeros((1, *x.shape), x.dtype) for name, x in observation.items()
  }
  chunk_length = act(zeros, np.zeros(2, np.int32)).shape[1]
  return act, policy_spec.PolicySpec(
      observation, len(low), chunk_length, action_low=low, action_high=high
  )


def make_policy(act: Act) -> server.Policy:
  """Returns a policy that draws N samples per state with `act`.

  Args:
    act: Must draw each row of a batch independently.
  """

  def sample(observation, num_samples, seed):
    size = policy_spec.num_states(observation)
    repeated = {
        name: np.repeat(x, num_samples, axis=0)
        for name, x in observation.items()
    }
    words = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    actions = act(repeated, words.view(np.int32))
    return actions.reshape(size, num_samples, *actions.shape[1:])

  return server.Policy(sample)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  if bool(options.policy) == bool(options.base):
    raise app.UsageError('Exactly one of --policy and --base must be given.')
  if bool(options.base) != bool(options.root_dir):
    raise app.UsageError('--base and --root_dir must be given together.')
  third_party_messages.silence_first_compilation()
  if options.policy:
    act, spec = exported_policy(options.policy)
  else:
    act, spec = steered_policy(
        options.base, options.root_dir, options.gin_bindings
    )
  server.serve(
      make_policy(act).sample,
      spec=spec,
      host=options.host,
      port=options.port,
      api_key=os.environ.get(KEY_VARIABLE),
  )


def run() -> None:
  """Console entry point."""
  console.run('parl-serve', main, _define_flags)


def _define_flags():
  flags.DEFINE_string('policy', None, 'Directory of the SavedModel.')
  flags.DEFINE_string('base', None, 'ws:// URL of the policy to steer.')
  flags.DEFINE_string(
      'root_dir', None, 'Directory of the run whose critic steers --base.'
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding that overrides that of the run.'
  )
  flags.DEFINE_string(
      'host',
      '127.0.0.1',
      'Address to listen on. If the environment variable'
      f' {KEY_VARIABLE} is set, clients must send its value as their API key.',
  )
  flags.DEFINE_integer(
      'port', 8000, 'Port to listen on; 0 selects a free one.', lower_bound=0
  )


if __name__ == '__main__':
  run()
