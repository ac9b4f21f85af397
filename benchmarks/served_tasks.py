"""Tasks on which served policies are improved."""

from typing import NamedTuple, Sequence


class Task(NamedTuple):
  """A task on which a policy is improved.

  Attributes:
    domain: Gin file of the domain, or its name in gin/domains.
    domain_bindings: Bindings of the domain.
    num_steps: Environment steps of the dataset.
    gin_files: Gin files of parl-train, without those of served policies.
    evaluation_files: Gin files that define the domain's evaluations.
    bindings: Further bindings of parl-train.
    num_epochs: Epochs of ten episodes.
    num_fitted_rows: States whose actions the policy is fitted to in an epoch.
    num_fit_steps: Gradient steps of the policy in an epoch.
    learning_rate: Of these steps.
    is_play: Whether the dataset is play.
  """

  domain: str
  domain_bindings: Sequence[str]
  num_steps: int
  gin_files: Sequence[str]
  evaluation_files: Sequence[str]
  bindings: Sequence[str]
  num_epochs: int
  num_fitted_rows: int
  num_fit_steps: int
  learning_rate: float
  is_play: bool = False


def _fetch(domain: str) -> Task:
  """Returns a task whose data a script that misjudges the goal records.

  Args:
    domain: Gin file of the domain; see fetch_push_study.gin.
  """
  flat = 'Gymnasium.flatten_observation = True'  # The examples read a vector.
  return Task(
      domain=domain,
      domain_bindings=[flat],
      num_steps=100_000,
      gin_files=[
          'methods/parl_iql.gin', 'policies/diffusion.gin',
          'sizes/small_arm.gin', domain,
      ],
      evaluation_files=[domain],
      bindings=[
          flat,
          'sampling_policy_rate = 1.0',  # What served policies permit.
          # In its place, an earlier version draws what the policy is fitted to.
          'ServedOnline.candidate_lag = 4',  # epochs
          # As sizes/small_arm.gin has for `Online`. A training step has its
          # four critic updates.
          'ServedOnline.max_online_weight = 10.0',
          'ServedOnline.fitted_offline_fraction = 0.5',
          'ServedOnline.evaluation_interval = 2',  # epochs
      ],
      num_epochs=12,
      num_fitted_rows=16_384,
      num_fit_steps=300,
      learning_rate=1e-4,
  )


TASKS = {
    'point_maze': Task(
        domain='pointmaze',
        domain_bindings=['PointMaze.min_start_distance = 7'],
        num_steps=30_000,
        gin_files=['quickstart.gin'],
        evaluation_files=['quickstart.gin'],
        bindings=['run_experiment.num_evaluation_episodes = 32'],
        # 130 episodes, as sizes/small.gin has, to whose number of updates the
        # critic's learning rate falls.
        num_epochs=13,
        num_fitted_rows=4_096,
        num_fit_steps=200,
        learning_rate=3e-4,
    ),
    # OGBench's cube within 25 decisions, task 2.
    'cube_play': Task(
        domain='cube',
        domain_bindings=['Cube.oracle_min_norm = 0.4'],
        num_steps=100_000,
        gin_files=['experiments/cube_play_fast_small.gin'],
        evaluation_files=['experiments/cube_play_fast_small.gin'],
        bindings=[
            # As `Online.policy_offline_fraction` of the experiment.
            'ServedOnline.fitted_offline_fraction = 0.5',
            # In place of its learning rate that falls to 0.
            'ServedOnline.final_fit_steps = 10',
            'ServedOnline.evaluation_interval = 2',  # epochs
        ],
        num_epochs=12,
        num_fitted_rows=8_192,
        num_fit_steps=300,
        learning_rate=1e-4,
        is_play=True,
    ),
    'fetch_push': _fetch('benchmarks/fetch_push.gin'),
    'fetch_pick': _fetch('benchmarks/fetch_pick.gin'),
}
"""The tasks by name."""
