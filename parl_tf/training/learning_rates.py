"""Notices that a part of an agent no longer learns."""

from typing import Dict, Sequence, Set, Tuple

from absl import logging

from parl_tf.agents import trained_part

# What a part trains, and the gin scope of its schedule.
_DESCRIPTIONS = {
    'critic': ('critic', 'critic'),
    'policy': ('policy', 'policy'),
    'cloning': ('cloned policy', 'pretrain'),
}


class ZeroRates:
  """Warns once per phase and part whose learning rate has fallen to 0.

  The number of online training steps depends on the lengths of the episodes, so
  that a schedule may end long before the phase.
  """

  def __init__(self):
    """Initializes the object; no part has been updated yet."""
    self._num_updates: Dict[str, int] = {}
    self._at_zero: Set[str] = set()
    self._warned: Set[Tuple[str, str]] = set()

  def look(
      self,
      parts: Sequence[trained_part.TrainedPart],
      phase: str,
      train_step: int,
  ) -> None:
    """Warns of parts that go on being updated at a rate of 0.

    At the first look that finds a rate of 0, the schedule may have ended with
    the phase, as it should.

    Args:
      parts: The agent's parts.
      phase: Phase of the run.
      train_step: Number of training steps so far.
    """
    for part in parts:
      number = part.num_updates
      # At first it is unknown which parts this process has updated.
      was_updated = number > self._num_updates.get(part.name, number)
      self._num_updates[part.name] = number
      if not was_updated:
        continue
      if part.learning_rate > 0.0:
        self._at_zero.discard(part.name)
      elif part.name not in self._at_zero:
        self._at_zero.add(part.name)
      elif (phase, part.name) not in self._warned:
        self._warned.add((phase, part.name))
        what, scope = _DESCRIPTIONS[part.name]
        logging.warning(
            'The %s no longer learns: by training step %d its learning rate'
            ' has fallen to 0. Unless this is intended, raise'
            ' `%s/WarmUpCosineDecay.num_decay_steps`, or bind it to None.',
            what,
            train_step,
            scope,
        )
