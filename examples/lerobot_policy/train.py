"""LeRobot's own training program, with its own options.

  python train.py --dataset.repo_id=local/maze --dataset.root=maze \
    --policy.type=diffusion --policy.push_to_hub=false --output_dir=base
"""

import torchvision_operators

if __name__ == '__main__':
  torchvision_operators.import_torchvision()
  from lerobot.scripts import lerobot_train

  lerobot_train.main()
