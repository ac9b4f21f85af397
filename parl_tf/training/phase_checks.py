"""Checks, before any work, that the phases of a run fit its agent."""

from typing import Any, Sequence

import gin

from parl_tf.agents import dppo_agent
from parl_tf.training import critic_check
from parl_tf.training import critic_encoder
from parl_tf.training import hindsight
from parl_tf.training import on_policy
from parl_tf.training import phases
from parl_tf.training import policy_check
from parl_tf.training import token_check


def check(
    all_phases: Any, phase_names: Sequence[str], domain: Any, agent: Any
) -> None:
  """Checks that the chosen phases can run.

  Args:
    all_phases: The phases; `online` is that of the run.
    phase_names: Names of those that the run has.
    domain: `Domain`.
    agent: The agent, trained or not.

  Raises:
    TypeError: If a method of the policy or the critic has other arguments.
    ValueError: If the online phase does not fit the domain or the policy, there
      is offline RL without a critic, the policy's actions, the critic's
      values or the losses of either have another shape, dtype or range, a loss
      lacks densities that it reads, the critic's image encoder cannot start
      with the policy's weights, the task has tokens that the policy does not
      know, or goals are to be replaced that it lacks.
  """
  policy = agent.generative_policy
  critic = getattr(agent, 'critic', None)
  has_mask = agent.chunk_length > 1  # See `replay.chunks`.
  if not policy.is_served:
    policy_check.check(
        policy,
        agent.time_step_spec.observation,
        agent.chunk_length * agent.action_spec.shape[0],
        is_cloned=(
            'behavior_cloning' in phase_names
            and gin.get_bindings(phases.BehaviorCloning).get('num_steps', 1) > 0
        ),
        has_mask=has_mask,
    )
  # Tracing takes up to a second, and parl_tf's own critics are tested.
  is_own = type(critic).__module__.startswith('parl_tf.')
  if critic is not None and not is_own:
    critic_check.check(agent, has_mask=has_mask)
  if critic is not None and {'offline', 'online'} & set(phase_names):
    agent.check_densities()
  hindsight.Hindsight(domain)  # Raises early.
  token_check.check_task(policy, domain.observation_spec())
  if 'online' in phase_names:
    is_on_policy = isinstance(all_phases.online, on_policy.OnPolicy)
    if is_on_policy != isinstance(agent, dppo_agent.DPPOAgent):
      raise ValueError(
          '`run_experiment.online_ctor` must be @OnPolicy with'
          ' `build_agent.agent_ctor` = @DPPOAgent, and with no other agent, got'
          f' {type(all_phases.online).__name__} and {type(agent).__name__}.'
      )
    bound = gin.get_bindings('run_experiment')
    if is_on_policy and bound.get('timeouts_fail_online'):
      raise ValueError(
          '`run_experiment.timeouts_fail_online` must be False with `OnPolicy`,'
          ' got True.'
      )
    goals = gin.get_bindings(hindsight.Hindsight)
    if is_on_policy and goals.get('online_goals'):
      raise ValueError(
          '`Hindsight.online_goals` must be 0 with `OnPolicy`, which has no'
          f' table of online episodes, got {goals["online_goals"]}.'
      )
    all_phases.online.check(domain, agent)
  num_steps = gin.get_bindings(phases.Offline).get('num_steps', 1)
  if 'offline' in phase_names and num_steps and critic is None:
    raise ValueError(
        "`phase_names` must not have 'offline' for a method without a critic"
        f' of actions, got {list(phase_names)}.'
    )
  if 'offline' in phase_names and num_steps:
    critic_encoder.check(agent)
  elif 'online' in phase_names and critic is not None:
    critic_encoder.check_unbound()
