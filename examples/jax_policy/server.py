"""Serves a policy that `train.py` has written.

  python server.py base --directory versions
"""

import argparse
import logging

import flow_policy
import numpy as np
import optax

from parl_tf.serving import server


def main() -> None:
  """Serves the policy until Ctrl-C."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('policy', help='directory of weights')
  parser.add_argument('--directory', help='where to save trained versions')
  parser.add_argument('--port', type=int, default=8000)
  parser.add_argument('--learning_rate', type=float, default=3e-4)
  options = parser.parse_args()
  logging.basicConfig(level=logging.INFO)
  policy = flow_policy.FlowPolicy(np.ones([1, 1]), np.ones([1, 1]))
  policy.load(options.policy)
  policy.optimizer = optax.adam(options.learning_rate)
  server.serve(
      policy.sample,
      policy.train,
      spec=policy.spec(),
      save=policy.save,
      load=policy.load,
      version=policy.version(),
      directory=options.directory,
      port=options.port,
  )


if __name__ == '__main__':
  main()
