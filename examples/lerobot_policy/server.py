"""Serves a checkpoint of LeRobot to parl_tf.

  python server.py base/checkpoints/last/pretrained_model --directory versions

Each version that a training makes is saved to the directory, as a checkpoint
that LeRobot loads.
"""

import argparse
import logging

import lerobot_policy

from parl_tf.serving import server


def main() -> None:
  """Serves the policy until Ctrl-C."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('checkpoint', help='directory of a checkpoint')
  parser.add_argument('--directory', help='where to save trained versions')
  parser.add_argument('--port', type=int, default=8000)
  parser.add_argument('--learning_rate', type=float)
  parser.add_argument('--batch_size', type=int, default=256)
  parser.add_argument('--lora_rank', type=int, default=0, help='0: no LoRA')
  options = parser.parse_args()
  logging.basicConfig(level=logging.INFO)
  policy = lerobot_policy.LeRobotPolicy(
      options.checkpoint,
      batch_size=options.batch_size,
      learning_rate=options.learning_rate,
      lora_rank=options.lora_rank,
  )
  saving = {}
  if options.directory:
    saving = {'save': policy.save, 'load': policy.load}
  server.serve(
      policy.sample,
      policy.train,
      spec=policy.spec(),
      version=policy.version(),
      directory=options.directory,
      port=options.port,
      **saving,
  )


if __name__ == '__main__':
  main()
