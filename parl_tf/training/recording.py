"""Records a data set with a domain's own controller."""

from typing import Any, Callable, Mapping, Optional

import gin

from parl_tf.datasets import d4rl
from parl_tf.datasets import generate


def record_dataset(
    domain: Any,
    path: str,
    *,
    num_steps: int,
    seed: int,
    progress: Optional[Callable[[int], None]] = None,
    metadata: Optional[Mapping[str, Any]] = None,
) -> None:
  """Writes a D4RL-layout file of the domain's noisy controller.

  Args:
    domain: `Domain` with a controller that records data.
    path: File to write, all or nothing.
    num_steps: Environment steps.
    seed: Non-negative; the file is a function of it.
    progress: Called with the number of steps so far.
    metadata: Written as attributes beside `num_steps`, `seed` and the gin
      configuration.

  Raises:
    ValueError: If the domain has no such controller.
  """
  environment = domain.make_data_environment(seed)
  controller = domain.make_data_controller(environment)
  if controller is None:
    raise ValueError(
        f'{type(domain).__name__} must have a controller to record data with.'
    )
  recordings = generate.generate(
      environment,
      controller,
      num_steps=num_steps,
      seed=seed,
      progress=progress,
  )
  metadata = {
      'num_steps': num_steps,
      'seed': seed,
      'gin_config': gin.config_str(),
      **(metadata or {}),
  }
  with d4rl.EpisodeFile(path, metadata=metadata) as file:
    for recording in recordings:
      file.append(recording.episode, recording.infos)
  environment.close()
