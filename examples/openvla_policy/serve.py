"""Serves a vision-language-action model to parl_tf.

  python serve.py weights --dataset bridge_orig --directory versions

Each version that a training makes is saved to the directory as an adapter.
Several servers of the same weights that share the directory draw the samples of
one version together.
"""

import argparse
import logging

import policy as policy_lib
import reading

from parl_tf.serving import server


def main() -> None:
  """Serves the policy until Ctrl-C."""
  parser = argparse.ArgumentParser(description=__doc__)
  _add_model(parser)
  parser.add_argument('--directory', help='where to save trained versions')
  parser.add_argument('--port', type=int, default=8000)
  parser.add_argument('--lora_rank', type=int, default=32)
  parser.add_argument('--lora_alpha', type=float, default=16.0)
  parser.add_argument('--learning_rate', type=float, default=2e-5)
  parser.add_argument('--batch_size', type=int, default=16)
  parser.add_argument(
      '--states_per_pass', type=int, default=16,
      help='states that the model reads at once; fewer need less memory',
  )
  parser.add_argument(
      '--max_batch', type=int, default=64, help='states of a call'
  )
  options = vars(parser.parse_args())
  logging.basicConfig(level=logging.INFO)
  directory, port = options.pop('directory'), options.pop('port')
  policy = policy_lib.VLAPolicy(policy_lib.Settings(**options))
  logging.info('Checksum of the base weights: %s', policy.base_checksum())
  saving = {}
  if directory:
    saving = {'save': policy.save, 'load': policy.load}
  server.serve(
      policy.sample,
      policy.train,
      spec=policy.spec(),
      version=policy.version(),
      directory=directory,
      port=port,
      **saving,
  )


def _add_model(parser: argparse.ArgumentParser) -> None:
  """Adds the options that describe the weights."""
  parser.add_argument('path', help='directory of the weights')
  parser.add_argument(
      '--dataset', required=True, help='whose statistics scale the actions'
  )
  parser.add_argument(
      '--statistics', help='file of statistics, if not beside the weights'
  )
  parser.add_argument('--prompt', default=reading.PROMPT)
  parser.add_argument(
      '--last_tokens', type=int, nargs='*', default=(),
      help='ids that end a prompt; 29871 for OpenVLA',
  )
  parser.add_argument(
      '--words', nargs='*', default=(),
      help='vocabulary of instructions that are numbers',
  )
  parser.add_argument(
      '--trust_remote_code', action='store_true',
      help='run the code that comes with the weights, as OpenVLA needs',
  )
  parser.add_argument('--device', default='cpu')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument(
      '--attention', default='sdpa', choices=['sdpa', 'eager']
  )


if __name__ == '__main__':
  main()
