"""Tests that a user learns which of their bindings have no effect."""

import pathlib

from absl.testing import absltest

from parl_tf.binaries import configs
from parl_tf.binaries import overridden_bindings


class OverriddenBindingsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._folder = pathlib.Path(self.create_tempdir().full_path)
    self._write('method.gin', "include 'critic.gin'\nSearch.n = 3\nname = 1")
    self._write('critic.gin', 'a.b.Critic.gamma = 0.99\nx/Adam.rate = @f()')

  def _write(self, name, text):
    (self._folder / name).write_text(text)

  def _warnings(self, text, files=('mine.gin', 'method.gin'), bindings=()):
    self._write('mine.gin', text)
    return overridden_bindings.warnings(
        files,
        bindings,
        lambda name: str(self._folder / name),
        lambda path: path.endswith('mine.gin'),
    )

  def test_names_both_files_and_values(self):
    (found,) = self._warnings('Critic.gamma = 0.95')

    self.assertStartsWith(
        found,
        'mine.gin: Critic.gamma = 0.95 has no effect, because critic.gin, which'
        ' is read later, has Critic.gamma = 0.99.',
    )

  def test_what_is_overridden(self):
    for text in ('Critic.gamma = 0.95', 'x/Adam.rate = @g', 'name = 2'):
      with self.subTest(text):
        self.assertLen(self._warnings(text), 1)
    # The user's own file may include one of the library below its binding.
    self.assertLen(
        self._warnings("Search.n = 4\ninclude 'method.gin'", ['mine.gin']), 1
    )

  def test_what_is_not(self):
    for text in (
        'Critic.gamma = 0.99', 'Adam.rate = 1', 'x/Adam.rate = @f()',
        "include 'method.gin'",
    ):
      with self.subTest(text):
        self.assertEmpty(self._warnings(text))
    text = 'Critic.gamma = 0.95'
    self.assertEmpty(self._warnings(text, ['method.gin', 'mine.gin']))
    self.assertEmpty(
        self._warnings(text, ['mine.gin', 'method.gin', 'mine.gin'])
    )
    self.assertEmpty(self._warnings(text, bindings=['Critic.gamma = 0.9']))

  def test_the_check_of_a_configuration_warns(self):
    task = self.create_tempfile('task.gin', 'Critic.gamma = 0.95').full_path
    with self.assertLogs(level='WARNING') as logs:
      configs.check([task, 'critics/ensemble.gin'])

    self.assertLen(logs.output, 1)
    self.assertIn('critics/ensemble.gin', logs.output[0])
    with self.assertNoLogs(level='WARNING'):
      configs.check(['critics/ensemble.gin', task])


if __name__ == '__main__':
  absltest.main()
