"""Follows docs/add_a_policy.md exactly, with a smaller run.

The run also has the critic of docs/add_a_critic.md.
"""

import pathlib
import re
import shlex

from absl.testing import absltest

from examples import gaussian_mixture
from tests import pages
from tests import programs
from tests import tensor_case
from tests.binaries import tiny
from tests.policies import policy_conformance

_PAGE = tiny.ROOT / 'docs' / 'add_a_policy.md'


def _blocks(language):
  """Returns the page's code blocks of one language, in order."""
  page = _PAGE.read_text(encoding='utf-8')
  return re.findall(rf'```{language}\n(.*?)```', page, re.DOTALL)


class GaussianMixtureConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, **kwargs):
    return policy_conformance.make(
        gaussian_mixture.GaussianMixturePolicy,
        **{'hidden_sizes': (16,), **kwargs},
    )

  def make_policy_of_two_modes(self):
    return self.make_policy(), 600, 1e-2  # Steps and learning rate.


class PageTest(tensor_case.TensorCase):

  def test_its_files_match_the_examples(self):
    module, *_ = _blocks('python')
    (configuration,) = _blocks('gin')
    folder = tiny.ROOT / 'examples'
    for name, text in (('py', module), ('gin', configuration)):
      file = folder / f'gaussian_mixture.{name}'
      self.assertEqual(file.read_text(encoding='utf-8'), text)

  def test_its_test_matches_this_one(self):
    *_, test = _blocks('python')
    own = pathlib.Path(__file__).read_text(encoding='utf-8')
    _, _, method = test.partition('  def make_policy')
    self.assertIn(_words(method), _words(own))

  def test_its_command_trains(self):
    folder = self.create_tempdir().full_path
    module, *_ = _blocks('python')
    (configuration,) = _blocks('gin')
    for name, text in (('py', module), ('gin', configuration)):
      path = pathlib.Path(folder, f'gaussian_mixture.{name}')
      path.write_text(text, encoding='utf-8')
    command, _ = _blocks('sh')
    program, *arguments = shlex.split(command)
    self.assertEqual(program, 'parl-train')
    critic_page = 'docs/add_a_critic.md'
    pages.save_files(critic_page, folder)
    arguments += next(pages.commands(critic_page))[-2:]
    # The page's command, with a smaller run that starts in the online phase.
    sizes = [
        f'--gin_bindings={binding}'
        for binding in (
            *tiny.BINDINGS,
            'ActionOptimizer.num_gradient_steps = 0',
            *tiny.ONE_EXPORT,
            "run_experiment.phase_names = ('online',)",
        )
    ]
    programs.run('parl_tf.binaries.train', *arguments, *sizes, folder=folder)
    self.assertTrue(
        pathlib.Path(folder, 'runs/mixture/policies/greedy_policy').is_dir()
    )
    *_, row = tiny.read_metrics(f'{folder}/runs/mixture')
    self.assertGreater(float(row['values/spread']), 0.0)


def _words(text):
  """Returns code without the characters that a formatter may change."""
  return re.sub(r'[\s,]', '', text)


if __name__ == '__main__':
  absltest.main()
