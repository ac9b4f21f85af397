"""Tests of which searches `parl-search` compares, and which one it keeps."""

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.binaries import search_settings

Axes = search_settings.Axes
Climb = search_settings.Climb
Scores = search_settings.Scores
Setting = search_settings.Setting

_OWN = Setting(32, 0.5, 3, 3, 0.1)
_FEW = Setting(4, 0.5, 1, 0, 0.0)
_ALONE = Setting(1, 0.5, 1, 0, 0.0)


def _scores(num_episodes, num_successes, mean_return=-10.0):
  outcomes = ('1' * num_successes).ljust(num_episodes, '0')
  return Scores(outcomes, mean_return)


class SettingsTest(parameterized.TestCase):

  def test_ranking_has_no_step_size(self):
    self.assertEqual(
        search_settings.make_settings([4], [0.5], [8], [0, 2], [0.1, 0.2]),
        [
            Setting(4, 0.5, 1, 0, 0.0),
            Setting(4, 0.5, 4, 2, 0.1),
            Setting(4, 0.5, 4, 2, 0.2),
        ],
    )

  def test_the_default_grid_is_around_the_runs_search(self):
    own = _OWN._replace(num_samples=10)
    grid = search_settings.make_grid(Axes(), own, 3, Climb({3}, 0.1))
    self.assertEqual(
        [x.num_samples for x in grid[::2]], [1, 2, 4, 8, 10, 16, 32]
    )
    self.assertLen(grid, 14)
    self.assertContainsSubset({own, _FEW, _ALONE}, grid)
    # A run that only ranks.
    grid = search_settings.make_grid(Axes(), _FEW, 1, Climb(set(), None))
    self.assertEqual({x.num_gradient_steps for x in grid}, {0})
    # One that ranks to act, and climbs to train.
    grid = search_settings.make_grid(Axes(), _FEW, 3, Climb({0, 2}, 0.1))
    self.assertIn(Setting(4, 0.5, 3, 2, 0.1), grid)

  @parameterized.parameters(
      (Axes(num_samples=[2, 4], num_candidates=[5]),
       r'K = 5\) must not exceed .*N = 4'),
      (Axes(num_gradient_steps=[0], step_sizes=[0.1]),
       r'--step_sizes has no effect .* got \[0\]'),
      (Axes(num_gradient_steps=[2]), '--step_sizes must be given'),
  )
  def test_a_choice_without_effect_is_named(self, axes, message):
    with self.assertRaisesRegex(ValueError, message):
      search_settings.make_grid(axes, _OWN, 3, Climb({3}, None))


class HalveTest(absltest.TestCase):

  def _halve(self, rounds, num_rounds=3):
    """Halves searches of 1, 2, ... samples.

    Args:
      rounds: Successes among eight episodes, by number of samples, of each
        round.
      num_rounds: Largest number of rounds.

    Returns:
      The choice, and the samples of the searches in each round.
    """
    played = []

    def play(number, some):
      played.append([x.num_samples for x in some])
      return {
          x: _scores(8, rounds[number - 1][x.num_samples])
          for x in some
      }

    settings = [Setting(n, 1.0, 1, 0, 0.0) for n in rounds[0]]
    choice = search_settings.halve(settings, num_rounds, play)
    return choice, played

  def test_the_better_half_plays_on_and_all_episodes_count(self):
    choice, played = self._halve([
        {1: 0, 2: 1, 3: 5, 4: 3, 5: 4, 6: 6, 7: 8},
        {3: 6, 5: 2, 6: 6, 7: 3},
        {3: 8, 6: 6},
    ])

    self.assertEqual(
        played, [[1, 2, 3, 4, 5, 6, 7], [7, 6, 3, 5], [6, 3]]
    )
    # The first one of the first round is overtaken, and not by the last round
    # alone: 19 of 24 against 18 of 24.
    self.assertEqual([x.num_samples for x in choice.finalists], [3, 6])
    scores = {x.num_samples: y for x, y in choice.scores.items()}
    self.assertEqual(
        scores[3], Scores('111110001111110011111111', -10.0)
    )
    self.assertEqual(scores[3].success_rate, 19 / 24)
    self.assertEqual(scores[7], Scores('1111111111100000', -10.0))
    self.assertEqual(scores[1], _scores(8, 0))

  def test_who_left_early_cannot_win(self):
    choice, _ = self._halve([{1: 5, 2: 6, 4: 7}, {2: 0, 4: 0}])
    # 5 of 8 would be better than 7 of 16.
    self.assertEqual([x.num_samples for x in choice.finalists], [4, 2])

  def test_rounds_end_with_two_searches_or_with_their_number(self):
    rounds = [dict.fromkeys(range(1, 9), 4)] * 3
    self.assertLen(self._halve(rounds, 1)[1], 1)
    self.assertEqual(list(map(len, self._halve(rounds, 2)[1])), [8, 4])
    self.assertLen(self._halve([{1: 4, 2: 4}], 3)[1], 1)

  def test_the_cheapest_of_those_as_good_as_the_best_wins(self):
    few, many, climbing = _FEW, _FEW._replace(num_samples=32), _OWN
    self.assertEqual((few.cost, many.cost, climbing.cost), (4, 32, 50))
    for numbers, winner in (
        # Chance gives three starts lost and none won in 12.5 %, two in 25 %.
        ((21, 24, 24), many),
        ((22, 24, 24), few),
        # No error can be told: the best by its return.
        ((46, 46, 48), climbing),
        ((0, 0, 0), climbing),
    ):
      scores = {
          x: _scores(48, number)
          for x, number in zip((few, many, climbing), numbers)
      }
      choice = search_settings.Choice([climbing, many, few], scores)
      self.assertEqual(search_settings.cheapest_of_best(choice), winner)

  def test_searches_are_compared_start_by_start(self):
    scores = {_OWN: Scores('1100' * 12, -10.0), _FEW: Scores('0010' * 12, -9.0)}
    choice = search_settings.Choice([_OWN, _FEW], scores)
    # 24 starts are lost and 12 won: 3.3 % by chance.
    self.assertEqual(search_settings.cheapest_of_best(choice), _OWN)
    # The same rates, but 12 starts are lost and none is won.
    scores[_FEW] = Scores('1000' * 12, -9.0)
    self.assertEqual(search_settings.cheapest_of_best(choice), _OWN)
    # 12 lost and 11 won.
    scores[_FEW] = Scores('1010' * 11 + '1000', -9.0)
    self.assertEqual(search_settings.cheapest_of_best(choice), _FEW)

  def test_ties_go_to_the_longer_return_then_to_the_cheaper_search(self):
    climbing = _FEW._replace(num_candidates=2, num_gradient_steps=1)
    many = _FEW._replace(num_samples=8)
    tie = _scores(8, 4)
    self.assertEqual(
        search_settings.rank({
            climbing: tie,
            many: tie,
            _FEW: tie,
            _OWN: _scores(8, 4, -9.0),
            _ALONE: _scores(8, 5, -30.0),
        }),
        [_ALONE, _OWN, _FEW, many, climbing],
    )

  def test_pooled_episodes_tie_in_any_order(self):
    returns = [0.1, 0.7, 0.2]
    pooled = {
        search_settings.pool([Scores('010', x) for x in order])
        for order in (returns, returns[::-1], sorted(returns))
    }
    self.assertLen(pooled, 1)


if __name__ == '__main__':
  absltest.main()
