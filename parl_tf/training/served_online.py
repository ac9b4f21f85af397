"""The online phase of a policy that another process serves and trains."""

from concurrent import futures
import contextlib
import os
import socket
import threading
import time
from typing import Any, Dict, Iterator, Optional

from absl import logging
import gin
import numpy as np
import tensorflow as tf

from parl_tf import interruption
from parl_tf import randomness
from parl_tf.replay import action_cache
from parl_tf.replay import experience
from parl_tf.training import cached_samples
from parl_tf.training import phases
from parl_tf.training import progress
from parl_tf.training import sample_segments
from parl_tf.training import served_checks
from parl_tf.training import session as session_lib

_ROWS_PER_SEARCH = 256


@gin.configurable
class ServedOnline:
  """Fine-tunes the critic here and the policy in its server, by epochs.

  An epoch acts some episodes, draws samples at their states, trains the critic
  on cached samples while stale ones are drawn again, searches better actions at
  stored states, and makes the server fit them, which gives the next version of
  the weights. A restart repeats an interrupted epoch with the version that it
  began with.
  """

  name = 'online'

  def __init__(
      self,
      num_epochs: int = 20,
      episodes_per_epoch: int = 10,
      critic_batch_size: int = 256,
      offline_fraction: float = 0.5,
      max_online_weight: Optional[float] = None,
      critic_utd: float = 1.0,
      num_fitted_rows: int = 4096,
      fitted_offline_fraction: Optional[float] = None,
      num_fit_steps: int = 200,
      final_fit_steps: Optional[int] = None,
      candidate_lag: int = 0,
      refresh_share: float = 0.5,
      refresh_beside_training: bool = True,
      evaluation_interval: int = 5,
      num_samples: Optional[int] = None,
      base_cache: Optional[str] = None,
  ):
    """Initializes the phase.

    Args:
      num_epochs: Number of epochs; 0 skips the phase.
      episodes_per_epoch: Episodes acted in an epoch.
      critic_batch_size: Rows of one critic update.
      offline_fraction: Share of these rows from the offline table.
      max_online_weight: See `Online`.
      critic_utd: Training steps of the critic per environment step.
      num_fitted_rows: States at which actions are searched for the server.
      fitted_offline_fraction: Share of these states from the offline table;
        None draws from both tables in proportion to their sizes.
      num_fit_steps: Updates by the server in an epoch.
      final_fit_steps: Updates in the last epoch, to which the number changes
        linearly; None keeps it. A small number lets the policy settle, as a
        learning rate that falls does, whatever the server's optimizer.
      candidate_lag: Epochs by which the version of the weights that draws the
        candidates of the fit is behind the present one; 0 draws from the
        present one. A number that exceeds `num_epochs` always draws from the
        version with which the run began, the counterpart of a slow
        `sampling_policy_rate`. The server must save versions; it loads two more
        in each epoch.
      refresh_share: Share of all states whose cached samples must have the
        present version of the weights; the stalest are drawn again.
      refresh_beside_training: Whether the critic trains meanwhile, on the
        samples so far, and gets the new ones in the next epoch. False draws
        them first.
      evaluation_interval: Epochs between evaluations.
      num_samples: Samples of a state in the caches and for the server's fit;
        None takes N of the search for training.
      base_cache: Action cache of the offline table; None takes that of the
        run's offline phase, if it has one. A cache of fewer samples, or of a
        version that the run never had, is not used. Whether the run stores
        samples as float16 or float32 is as in this cache.

    Raises:
      ValueError: If a number is out of range.
    """
    given = [x for x in (final_fit_steps, num_samples) if x is not None]
    if min(episodes_per_epoch, critic_batch_size, num_fitted_rows,
           num_fit_steps, evaluation_interval, *given) < 1:
      raise ValueError(
          '`episodes_per_epoch`, `critic_batch_size`, `num_fitted_rows`, '
          '`num_fit_steps`, `final_fit_steps`, `evaluation_interval` and '
          '`num_samples` must be positive.'
      )
    if min(num_epochs, candidate_lag) < 0:
      raise ValueError(
          '`num_epochs` and `candidate_lag` must not be negative, got '
          f'{num_epochs} and {candidate_lag}.'
      )
    if not critic_utd > 0.0 or not 0 <= refresh_share <= 1:
      raise ValueError(
          '`critic_utd` must be positive and `refresh_share` in [0, 1], got '
          f'{critic_utd} and {refresh_share}.'
      )
    self._critic: Dict[str, Any] = dict(
        critic_batch_size=critic_batch_size,
        critic_offline_fraction=offline_fraction,
        critic_max_online_weight=max_online_weight,
    )
    self._fit_request = experience.ExperienceRequest(
        policy_slices=1,
        policy_batch_size=num_fitted_rows,
        policy_offline_fraction=fitted_offline_fraction,
    )
    # Raises before any work if a fraction does not give whole rows.
    for request in (
        self._fit_request,
        experience.ExperienceRequest(critic_slices=1, **self._critic),
    ):
      experience.requested_parts(request)
    self._num_epochs = num_epochs
    self._episodes_per_epoch = episodes_per_epoch
    self._critic_utd = critic_utd
    self._num_fit_steps = num_fit_steps
    self._final_fit_steps = final_fit_steps
    self._candidate_lag = candidate_lag
    self._refresh_share = refresh_share
    self._is_beside = refresh_beside_training
    self._evaluation_interval = evaluation_interval
    self._num_samples = num_samples
    self._base_cache = base_cache

  def check(self, domain, agent) -> None:
    """Checks agent, settings and server; see `served_checks.check`."""
    del domain
    served_checks.check(
        agent,
        self._num_samples,
        self._fit_request.policy_batch_size,
        uses_server=self._num_epochs > 0,
        needs_versions=self._candidate_lag > 0,
    )

  def run(self, session: session_lib.Session) -> None:
    """Runs or resumes the phase; `check` has been called.

    Raises:
      ConnectionError: If the policy's server does not answer.
      ValueError: If the policy's server has neither the version of the run nor
        can load it, or another run trains its policy.
    """
    policy = session.agent.generative_policy
    # Closed at the end, so that others may train the policy.
    with session.source.collection(session) as collection, policy:
      if not self._num_epochs:
        return
      if not session.begin_phase(self.name, self._num_epochs):
        return
      self._begin(session, policy)
      segments = self._segments(session)
      with progress.Progress(
          self.name, self._num_epochs, session.state.phase_step, unit='epoch'
      ) as bar:
        while session.state.phase_step < self._num_epochs:
          metrics = self._epoch(
              session, collection, policy, segments, bar.show_part
          )
          step = session.state.phase_step
          if (
              step % self._evaluation_interval == 0 or step == self._num_epochs
          ):
            bar.show_part('evaluating')
            metrics.update(session.evaluate(with_search=True))
          session.write_row(metrics)
          bar.update(step, **metrics)
          interruption.end_turn(session.save, is_due=True)
      if not session.state.latest:  # The number of epochs was lowered.
        session.write_row(session.evaluate(with_search=True))
      session.end_phase()

  def _begin(self, session, policy) -> None:
    """Makes the server use the version of the run's checkpoint."""
    state = session.state
    # Clients with one name are one trainer: a run that resumes need not wait
    # until the server notices that its earlier connection is gone.
    policy.client.name = (
        f'the run {os.path.abspath(session.root_dir)} on {socket.gethostname()}'
    )
    session.agent.begin_online()
    if not state.policy_versions:
      state.policy_versions = [
          policy.version or state.offline_version or policy.current_version()
      ]
      session.agent.reset_optimizers()
    policy.restore(state.policy_versions[-1])
    if policy.client.can_save:
      policy.client.save(policy.version)
    else:
      logging.warning(
          'The policy server at %s saves no versions: if it restarts, or this'
          ' run ends while the server fits, the run cannot resume.',
          policy.client.address,
      )
    session.save()

  def _segments(self, session) -> sample_segments.SampleSegments:
    agent, search = session.agent, session.agent.searches.training
    given = self._base_cache or gin.get_bindings(phases.Offline).get(
        'action_cache'
    )
    path = given or cached_samples.own_directory(session)
    header = action_cache.Header(
        session.state.policy_versions[-1],
        self._num_samples or search.num_samples,
        agent.chunk_length * agent.action_spec.shape[0],
        session.seed,
        search.temperature,
        settings=agent.generative_policy.sample_settings,
    )
    base = None
    if given or os.path.isdir(path):
      base = sample_segments.open_base(
          path, header, session.state.policy_versions
      )
    return sample_segments.SampleSegments(
        os.path.join(session.root_dir, 'action_segments'),
        session.experience,
        header,
        base,
    )

  def _epoch(self, session, collection, policy, segments, show_part):
    """Runs one epoch; returns its metrics."""
    state = session.state
    show_part('collecting')
    collected = []
    for _ in range(self._episodes_per_epoch):
      collected.append(collection.next(state.episodes))
      state.episodes += 1
      _end_part()
    num_steps = sum(x.num_steps for x in collected)
    state.env_steps += num_steps
    show_part('training the critic')
    metrics = self._train_critic(session, policy, segments, num_steps)
    _end_part()
    show_part('fitting the policy')
    start = time.monotonic()
    metrics.update(self._fit(session, policy))
    metrics['served/seconds'] = time.monotonic() - start
    state.policy_versions.append(policy.version)
    state.phase_step += 1
    if not policy.client.can_save:
      session.save()  # The server has no older version any more.
    metrics['collect/success'] = float(np.mean([x.success for x in collected]))
    metrics['collect/length'] = num_steps / len(collected)
    return metrics

  def _train_critic(self, session, policy, segments, num_steps):
    """Draws samples and trains the critic on them; returns metrics."""
    num_steps = max(1, round(self._critic_utd * num_steps))
    request = experience.ExperienceRequest(
        critic_slices=session.agent.critic_utd, **self._critic
    )
    if not session.agent.critic.draws_actions:
      session.train(num_steps, request)
      return {}
    versions = session.state.policy_versions
    sampler = cached_samples.served_sampler(policy, segments.header)

    has_trained, is_stopped = threading.Event(), threading.Event()

    def refresh(draw):
      return segments.refresh(versions, draw, self._refresh_share, is_stopped)

    start = time.monotonic()
    share_drawn = segments.draw_new(versions, sampler)
    if not self._is_beside:
      share_drawn += refresh(sampler)
    staleness = segments.attach(
        versions, includes_present=not self._is_beside
    )
    seconds = time.monotonic() - start
    with futures.ThreadPoolExecutor(max_workers=1) as executor:
      patient = cached_samples.patient_sampler(sampler, has_trained, is_stopped)
      drawing = executor.submit(refresh, patient)  # Draws nothing twice.
      try:
        session.train(num_steps, request)
        start = time.monotonic()
        has_trained.set()
        share_drawn += drawing.result()
      except BaseException:
        is_stopped.set()  # The error should not wait for the samples.
        has_trained.set()
        raise
      seconds += time.monotonic() - start
    return {
        'cache/staleness': staleness,
        'cache/share_drawn': share_drawn,
        'cache/seconds': seconds,
    }

  def _fit(self, session, policy):
    """Searches actions at stored states, and makes the server fit them."""
    agent = session.agent
    rows = next(
        session.experience.iterate(session.train_step, 1, self._fit_request)
    ).policy
    first = tf.nest.map_structure(lambda x: x[:, 0].numpy(), rows)
    mask = first.policy_info.get('action_mask')
    seed = randomness.fold_in([session.seed, 0], 'fit', session.train_step)
    search = agent.searches.training
    with self._candidate_version(session, policy):
      samples = policy.sample(
          first.observation,
          self._num_samples or search.num_samples,
          seed,
          temperature=search.temperature,
      ).numpy()
    dataset_action = first.action
    if mask is not None:
      dataset_action = np.where(mask > 0.0, dataset_action, samples[:, 0])
    found, gains = [], []
    for start in range(0, len(samples), _ROWS_PER_SEARCH):
      places = slice(start, start + _ROWS_PER_SEARCH)
      actions, gain = agent.best_actions(
          tf.nest.map_structure(
              lambda x: tf.constant(x[places]), first.observation
          ),
          tf.constant(samples[places]),
          tf.constant(dataset_action[places]),
          randomness.fold_in(seed, start),
      )
      found.append(actions.numpy())
      gains.append(gain.numpy())
    training = policy.fit(
        first.observation,
        np.concatenate(found),
        mask,
        num_steps=self._fit_steps(len(session.state.policy_versions) - 1),
        seed=session.train_step,
    )
    losses = next(iter(training.losses.values()))
    return {
        'served/loss': float(np.mean(losses)),
        'values/advantage': float(np.mean(np.concatenate(gains))),
    }

  def _fit_steps(self, epoch: int) -> int:
    """Returns the updates of an epoch, the first of which is 0."""
    if self._final_fit_steps is None:
      return self._num_fit_steps
    share = min(1.0, epoch / max(1, self._num_epochs - 1))
    change = self._final_fit_steps - self._num_fit_steps
    return round(self._num_fit_steps + share * change)

  @contextlib.contextmanager
  def _candidate_version(self, session, policy) -> Iterator[None]:
    """Makes the server use the version that draws candidates meanwhile."""
    versions = session.state.policy_versions
    candidates = versions[max(0, len(versions) - 1 - self._candidate_lag)]
    if candidates == policy.version:
      yield
      return
    present = policy.version
    policy.restore(candidates)
    yield
    # After an error, the restarted run restores its version.
    policy.restore(present)


def _end_part() -> None:
  """Ends the process if SIGTERM has come; a restart repeats the epoch.

  Its episodes are in the log, and its samples in their caches. What the server
  has begun to fit would be lost.
  """
  interruption.end_turn(lambda: None, is_due=False)
