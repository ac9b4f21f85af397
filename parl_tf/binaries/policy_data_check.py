"""The comparison of a policy with recorded actions, of `parl-doctor`.

With another unit, sign or order of its inputs, or an action that belongs to the
next observation, a policy answers and trains, but fails. If it was trained on
such data, its samples are closer to the action of their state than to those of
other states.
"""

from typing import List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import doctor_checks
from parl_tf.policies import remote
from parl_tf.replay import stored_states

_NUM_STATES = 256
_SEED = np.array([3, 4], np.int32)
_SHIFTS = (-2, -1, 1, 2)  # steps
_MIN_DEVIATION = 1e-3  # of a dimension, in units of [-1, 1]
# Standard errors by which a mean over states must differ from 0.
_CLOSER, _MUCH_CLOSER = 2.0, 4.0
_SHIFTED = 0.9  # Largest error of a shift, as a share of that without one.


class Comparison(NamedTuple):
  """How close samples are to recorded actions.

  Attributes:
    share: Mean distance to the action of the state, in that to the actions of
      other states.
    far: Dimensions in which the samples are not closer to the action of their
      state than to those of other states.
    shift: Steps by which the closest action is later; 0 if it is the state's.
  """

  share: float
  far: List[int]
  shift: int


def examine(
    policy: remote.RemotePolicy,
    episodes: Sequence[types.Episode],
    num_samples: int,
    num_frames: int,
) -> doctor_checks.Finding:
  """Compares samples of a policy with the actions of a dataset.

  Args:
    policy: The policy.
    episodes: Episodes of the dataset.
    num_samples: N, samples of a state.
    num_frames: Number of frames in an observation.
  """
  places = _places(episodes)
  states = stored_states.episode_states(episodes, num_frames)
  rows = tf.nest.map_structure(
      lambda *x: np.concatenate(x),
      *(states.rows(slice(i, i + 1)) for i in places.state),
  )
  samples = policy.sample(rows, num_samples, _SEED).numpy()
  size = episodes[0].action.shape[-1]
  found = compare(samples[..., :size], episodes, places)
  text = (
      f'at {len(places.state)} recorded states, the distance of its samples to'
      f' the action taken is {found.share:.2f} of that to actions of other'
      ' states'
  )
  if found.shift:
    return doctor_checks.Finding(
        'data',
        doctor_checks.NOTE,
        f'{text}; they are closest to the action {abs(found.shift)} steps'
        f' {"later" if found.shift > 0 else "earlier"}',
        'check which observation belongs to the first action of a chunk.',
    )
  if found.far:
    return doctor_checks.Finding(
        'data',
        doctor_checks.NOTE,
        f'{text}; they are not closer in the dimensions {found.far}',
        'if these data, or similar ones, trained it, check the units of actions'
        ' and observations, and the order of their elements.',
    )
  return doctor_checks.Finding('data', doctor_checks.OK, text)


class Places(NamedTuple):
  """Where the compared states are.

  Attributes:
    state: `[S]`, their indices among the states of all episodes.
    episode: `[S]`, their episodes.
    step: `[S]`, their steps.
  """

  state: np.ndarray
  episode: np.ndarray
  step: np.ndarray


def compare(
    samples: np.ndarray, episodes: Sequence[types.Episode], places: Places
) -> Comparison:
  """Compares samples `[S, N, A]` with the actions at `places`."""
  actions = np.stack(
      [episodes[e].action[t] for e, t in zip(places.episode, places.step)]
  )
  scale = np.std(actions, axis=0)
  varies = scale > _MIN_DEVIATION
  scale = np.where(varies, scale, 1.0)

  def distances(actions):
    """Returns mean distances `[S, A]`, in standard deviations."""
    distance = np.abs(samples - actions[:, np.newaxis]) / scale
    return np.where(varies, np.mean(distance, axis=1), 0.0)

  own = distances(actions)
  # The states are in random order.
  rolls = {len(actions) // i or 1 for i in (2, 3, 5)}
  others = np.mean(
      [distances(np.roll(actions, roll, axis=0)) for roll in rolls], axis=0
  )
  is_closer = _exceed_zero(others - own, _CLOSER)
  far = [int(i) for i in np.flatnonzero(varies & ~is_closer)]
  share = np.mean(own) / max(np.mean(others), 1e-9)
  lengths = np.array([episodes[e].num_steps for e in places.episode])
  best, least = 0, _SHIFTED
  for shift in _SHIFTS:
    step = places.step + shift
    known = np.flatnonzero((step >= 0) & (step < lengths))
    if len(known) < 2:
      continue
    moved = actions.copy()
    moved[known] = [
        episodes[places.episode[i]].action[step[i]] for i in known
    ]
    here, there = (
        np.mean(x, axis=1)[known] for x in (own, distances(moved))
    )
    ratio = np.mean(there) / max(np.mean(here), 1e-9)
    if ratio < least and _exceed_zero(here - there, _MUCH_CLOSER):
      best, least = shift, ratio
  return Comparison(float(share), far, best)


def _places(episodes) -> Places:
  """Draws up to 256 different steps, in random order."""
  lengths = np.array([e.num_steps for e in episodes])
  episode = np.repeat(np.arange(len(lengths)), lengths)
  starts = np.cumsum(lengths) - lengths
  step = np.arange(len(episode)) - np.repeat(starts, lengths)
  random = np.random.default_rng(0)
  chosen = random.permutation(len(episode))[:_NUM_STATES]
  # Each episode has a state after its last step, too.
  state = chosen + episode[chosen]
  return Places(state, episode[chosen], step[chosen])


def _exceed_zero(differences, num_errors):
  """Returns whether means over states exceed 0 by so many standard errors."""
  mean = np.mean(differences, axis=0)
  error = np.std(differences, axis=0) / np.sqrt(len(differences))
  return mean > num_errors * error
