"""Tests of finding misspelt names in gin without imports."""

import importlib

from absl.testing import absltest
import gin
import pytest

from parl_tf.binaries import gin_names


def _check(text, find=None):
  gin_names.check([('a.gin', text)], find)


class GinNamesTest(absltest.TestCase):

  def test_misspelt_names_and_parameters_are_errors(self):
    for text, message in (
        ('Ofline.num_steps = 3', "a.gin: .*'Ofline' .* mean 'Offline'"),
        ('a/b/Ofline.num_steps = 3', "mean 'Offline'"),
        ('Offline:\n  num_step = 3', "'Offline' has .*'num_step'.*num_steps'"),
        ('run_experiment.seed = 3', "has no parameter 'seed'. `--seed` sets"),
        ('run_experiment.num_seeds = 3', "'num_seeds'. `--seed` sets it"),
        ('generate.num_steps = 3', 'run_experiment.num_recorded_steps'),
        ('Hindsight.domain = 3', "'Hindsight' has no parameter 'domain'"),
        ('Offline.other_thing = 3', "'Offline' has no .*'other_thing'.$"),
        ('Search.optimizer = @ActonOptimizer()', "mean 'ActionOptimizer'"),
        ('name = (1, @a/ActonOptimizer)', "mean 'ActionOptimizer'"),
    ):
      with self.subTest(text), self.assertRaisesRegex(ValueError, message):
        _check(text)

  def test_what_may_be_right_is_not_an_error(self):
    for text in (
        'import my_task\nOfline.num_steps = 3',  # Perhaps its own class.
        'Something.else = 3',
        'Scene.reward_scale = 3',  # An argument of the parent class.
        'x/parl_tf.training.phases.Offline.num_steps = 3',
        'offline = 3\nOffline.num_steps = %offline',
        'tf_agents.PPOAgent.gradient_clipping = 1.0',
        'x = @tf_agents.PPOAgent',
    ):
      with self.subTest(text):
        _check(text)

  def test_included_files_are_checked_and_may_import(self):
    find = self.create_tempdir().create_file
    own = find('own.gin', content='import my_task').full_path
    wrong = find('wrong.gin', content='Ofline.num_steps = 3').full_path
    with self.assertRaisesRegex(ValueError, "mean 'Offline'"):
      _check(f"include '{wrong}'", lambda path: path)
    _check(f"include '{wrong}'\ninclude '{own}'", lambda path: path)

    def find_nothing(path):
      raise FileNotFoundError(path)

    # Perhaps of an installed package.
    _check("include 'other/a.gin'\nOfline.num_steps = 3", find_nothing)

  def test_faults_of_included_files_name_file_and_line(self):
    create = self.create_tempdir().create_file
    for name, content, message in (
        ('a.gin', b'\nA.b = (1', 'a.gin, line [23]: must be gin'),
        ('b.gin', b'\nA.b = c/d.hdf5', 'b.gin, line 2: text needs quotes'),
        ('c.gin', b'\xff\xfe', 'c.gin: .*cannot be decoded'),
        ('c.gin', b'\xef\xbb\xbfA.x = 1', 'c.gin must be UTF-8 without a byte'),
    ):
      path = create(name, content, mode='wb').full_path
      with self.subTest(name), self.assertRaisesRegex(ValueError, message):
        _check(f"include '{path}'", lambda path: path)


@pytest.mark.reverb
class ModulesTest(absltest.TestCase):

  def test_they_are_those_that_gin_knows_after_imports(self):
    found = gin_names.modules()
    self.assertGreater(len(found), 50)
    for name, module in found.items():
      with self.subTest(name):
        importlib.import_module(module)
        self.assertIsNotNone(gin.get_configurable(name))
    known = [each for _, each in gin.config._REGISTRY.items()]  # pylint: disable=protected-access
    ours = [
        each.name for each in known if (each.module or '').startswith('parl_tf')
    ]
    self.assertEmpty(set(ours) - set(found))
    # These can be bound in a file that imports TF-Agents.
    others = {
        x.name for x in known if (x.module or '').startswith('tf_agents')
    }
    self.assertGreater(len(others), 100)
    self.assertContainsSubset(
        [name for name in others if gin_names.misspelt(name)],
        ['BehavioralCloningAgent', 'PPOAgent', 'PPOPolicy', 'QPolicy'],
    )


if __name__ == '__main__':
  absltest.main()
