"""The initial weights of a critic's image encoder."""

import itertools

from absl import logging
import gin

from parl_tf.networks import observation_encoder

_OPTION = 'initialize_critic_encoder.from_policy'


@gin.configurable(denylist=['agent'])
def initialize_critic_encoder(agent, *, from_policy: bool = False) -> None:
  """Initializes the image encoder of a critic that is not yet trained.

  A run calls it once, when offline RL begins. A critic that a run resumes, or
  takes over from another run, keeps its weights.

  Note:
    Settings of an image encoder that change neither its class nor the shapes of
    its weights, such as `ImageEncoder.channels_per_group`, are not compared.

  Args:
    agent: Agent with a `Critic`; its policy has been cloned.
    from_policy: Whether the image encoders of the critic and of its target
      start with the weights of the policy's, which must have the same class and
      sizes, instead of random ones. All networks of the critic, such as IQL's
      V, share these two encoders. The policy keeps its own.

  Raises:
    ValueError: If `from_policy` is True and the policy has no image encoder in
      this process, or one of another class or other sizes.
  """
  if not from_policy:
    return
  source = _policy_encoder(agent)
  for target in agent.critic.observation_encoders:
    for variable, weights in zip(
        target.image_variables, source.image_variables, strict=True
    ):
      variable.assign(weights)
  logging.info("Critic: its image encoder starts with the policy's weights.")


def check(agent) -> None:
  """Checks, before any work, that what gin binds here can be done.

  Args:
    agent: Agent with a `Critic`, trained or not.

  Raises:
    ValueError: As `initialize_critic_encoder` would.
  """
  if gin.get_bindings(initialize_critic_encoder).get('from_policy'):
    _policy_encoder(agent)


def check_unbound() -> None:
  """Checks that nothing is bound, for a run without an offline phase.

  Raises:
    ValueError: If `from_policy` is True and the run begins from no other.
  """
  if gin.get_bindings('run_experiment').get('initial_run'):
    return  # Its critic may have done so.
  if gin.get_bindings(initialize_critic_encoder).get('from_policy'):
    raise ValueError(
        f'`{_OPTION}` must be False without an offline phase, at whose start'
        ' the weights are taken over; got True.'
    )


def _policy_encoder(agent) -> observation_encoder.ObservationEncoder:
  """Returns the policy's encoder, whose weights fit those of the critic."""
  policy = agent.generative_policy
  name = type(policy).__name__
  if policy.is_served:
    raise ValueError(
        f'`{_OPTION}` must be False, because another process has the weights'
        f' of the policy, {name}; got True.'
    )
  # Of averaged weights, if the policy acts with them: these are the clone that
  # is evaluated, ranked by the critic and exported. Single updates of a small
  # batch move the trained weights about this average.
  source = policy.acting_encoder
  if source is None or not source.image_encoders:
    missing = f'{name} has no image encoder'
    if source is not None:
      missing = 'the observations have no images'
    raise ValueError(f'`{_OPTION}` must be False: {missing}; got True.')
  for target in agent.critic.observation_encoders:
    for wanted, seen in zip(
        source.image_encoders, target.image_encoders, strict=True
    ):
      _check_equal(wanted, seen)
  return source


def _check_equal(wanted, seen):
  """Raises `ValueError` if two image encoders differ in class or shapes."""
  shapes = [[v.shape for v in x.variables] for x in (wanted, seen)]
  differing = [
      i for i, (a, b) in enumerate(itertools.zip_longest(*shapes)) if a != b
  ]
  # Gin may wrap a class again for each reference, but keeps its name.
  names = [type(x.network).__name__ for x in (wanted, seen)]
  if not differing and names[0] == names[1]:
    return
  index = differing[0] if differing else 0
  raise ValueError(
      f'`{_OPTION}` needs equal image encoders. That of the critic for'
      f' `{wanted.name}` must be {_describe(wanted, index)}, as in the policy,'
      f' got {_describe(seen, index)}.'
  )


def _describe(encoder, index):
  shapes = [tuple(v.shape) for v in encoder.variables]
  shape = shapes[index] if index < len(shapes) else 'none'
  return (
      f'{type(encoder.network).__name__} with {len(shapes)} variables, number'
      f' {index + 1} of shape {shape}'
  )
