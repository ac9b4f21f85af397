"""Imports torchvision where its compiled operators do not fit torch.

LeRobot imports torchvision, whose wheels on PyPI are compiled for one version
of torch with CUDA. Beside a torch for CPUs the import fails, because operators
for the detection of objects are missing. LeRobot does not call them.
"""

import torch

_OPERATORS = ('nms', 'qnms')
_SIGNATURE = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'


def import_torchvision() -> None:
  """Imports torchvision; declares the operators that its import needs."""
  try:
    import torchvision  # noqa: F401
  except RuntimeError as error:
    if 'torchvision::nms' not in str(error):
      raise
    library = torch.library.Library('torchvision', 'DEF')
    for name in _OPERATORS:
      library.define(name + _SIGNATURE)
    _libraries.append(library)
    import torchvision  # noqa: F401


# A library's operators exist as long as the library.
_libraries = []
