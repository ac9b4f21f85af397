"""Serves an exported policy, or a served policy steered by a run's critic.

  parl-serve --policy runs/quickstart/policies/greedy_policy
  parl-serve --base ws://127.0.0.1:8000 --root_dir runs/critic --port 8001

Clients use openpi's WebSocket protocol and do not need TensorFlow.
"""

import os
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console
from parl_tf.binaries import run_flags
from parl_tf.binaries import third_party_messages

KEY_VARIABLE = 'PARL_SERVER_KEY'
"""Environment variable with the API key that clients must send, if set."""


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  if bool(options.policy) == bool(options.base):
    raise app.UsageError('Exactly one of --policy and --base must be given.')
  if bool(options.base) != bool(options.root_dir):
    raise app.UsageError('--base and --root_dir must be given together.')
  if options.base:
    run_flags.check_url('base', options.base)
  if options.policy and options.gin_bindings:
    raise app.UsageError(
        '--gin_bindings change the search of --base; an exported --policy keeps'
        ' the configuration it was exported with.'
    )
  if options.policy and options.checkpoint != 'last':
    raise app.UsageError('--checkpoint is one of --root_dir.')
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import served_policy
  from parl_tf.serving import server

  third_party_messages.silence_first_compilation()
  if options.policy:
    policy = served_policy.exported_policy(options.policy)
  else:
    policy = served_policy.steered_policy(
        options.base,
        options.root_dir,
        options.gin_bindings,
        options.checkpoint,
    )
  server.serve(
      served_policy.make_policy(policy.act).sample,
      spec=policy.spec,
      version=policy.version,
      host=options.host,
      port=options.port,
      api_key=os.environ.get(KEY_VARIABLE),
  )


def run() -> None:
  """Console entry point."""
  console.run(
      'parl-serve', main, _define_flags, cleans_up=True
  )


def _define_flags():
  flags.DEFINE_string('policy', None, 'Directory of the SavedModel.')
  flags.DEFINE_string('base', None, 'ws:// URL of the policy to steer.')
  flags.DEFINE_string(
      'root_dir', None, 'Directory of the run whose critic steers --base.'
  )
  run_flags.define_checkpoint()
  flags.DEFINE_multi_string(
      'gin_bindings',
      [],
      'With --base: a gin binding that overrides that of the run.',
  )
  flags.DEFINE_string(
      'host',
      '127.0.0.1',
      'Address to listen on. If the environment variable'
      f' {KEY_VARIABLE} is set, clients must send its value as their API key.',
  )
  flags.DEFINE_integer(
      'port',
      8000,
      'Port to listen on; 0 selects a free one.',
      lower_bound=0,
      upper_bound=65_535,
  )


if __name__ == '__main__':
  run()
