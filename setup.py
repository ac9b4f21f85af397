"""Packaging of parl_tf: policy-agnostic reinforcement learning (PA-RL)."""

import pathlib
import re

import setuptools
from setuptools.command import build_py

_ROOT = pathlib.Path(__file__).resolve().parent
_VERSION = re.search(
    r"^__version__ = '(.+)'$",
    (_ROOT / 'parl_tf' / 'version.py').read_text(encoding='utf-8'),
    re.MULTILINE,
).group(1)


def _before_3_12(*requirements: str, on: str = '') -> list[str]:
  """Returns requirements of Python 3.10 and 3.11, with a further marker."""
  marker = 'python_version < "3.12"' + (f' and {on}' if on else '')
  return [f'{requirement}; {marker}' for requirement in requirements]


def _from_3_12(*requirements: str) -> list[str]:
  """Returns requirements of Python 3.12."""
  return [f'{requirement}; python_version >= "3.12"'
          for requirement in requirements]


_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'

# Version ranges that are known to work together. constraints.txt and
# constraints-3.12.txt each pin one exact set, which `make` installs and the
# tests use.
_REQUIREMENTS = [
    'absl-py>=1.0',
    'dm-env>=1.6,<2',
    'dm-tree>=0.1.8',
    'gin-config>=0.5,<0.6',
    'gymnasium>=1.0,<2',
    'gymnasium-robotics>=1.4,<1.5',
    'h5py>=3.10,<4',
    'imageio>=2.31,<3',
    'imageio-ffmpeg>=0.5',
    'matplotlib>=3.8,<4',
    # The kitchen fails an assertion with MuJoCo 4; its original model fails
    # with 3.2.
    'msgpack>=1.0.5,<2',
    'mujoco==3.1.6',
    # rliable imports arch, which cannot be imported with pandas 3.
    'pandas>=1.4,<3',
    'rich>=13',
    'rliable>=1.2,<2',
    'scipy>=1.11',
    # TensorBoard 2.15 imports pkg_resources, which setuptools 81 drops.
    'setuptools<81',
    'websockets>=15',
    *_before_3_12(
        'keras>=2.15,<2.16',
        'numpy>=1.23.5,<2',
        'tensorflow>=2.15,<2.16',
        'tensorflow-probability>=0.23,<0.24',
        'tf-agents>=0.19,<0.20',
    ),
    # dm-reverb has wheels for Linux on x86-64 only, which load with TensorFlow
    # 2.15 only. Other platforms cannot run replay services.
    *_before_3_12(
        'dm-reverb>=0.14,<0.15', 'tf-agents[reverb]>=0.19,<0.20', on=_LINUX
    ),
    *_from_3_12(
        # TF-Agents 0.19 works with these versions, but its metadata pins older
        # ones and a pygame without a wheel. `make` installs TF-Agents, and gym,
        # which it imports, with --no-deps; see docs/installation.md.
        'cloudpickle>=2',
        'numpy>=2,<3',
        'pillow>=10',
        'six>=1.16',
        # TensorFlow no longer requires it.
        'tensorboard>=2.20',
        'tensorflow>=2.21,<2.22',
        'tensorflow-probability>=0.25,<0.26',
        'tf-keras>=2.21,<2.22',
        'wrapt>=1.14',
    ),
]

# There is no `d4rl` extra: D4RL requires mujoco-py, which crashes on import
# without the old MuJoCo binary. `make d4rl` installs D4RL without its
# requirements, which is enough for its scores and original environments.
_OGBENCH = [
    # The versions that are compatible with the pinned MuJoCo.
    'dm-control==1.0.20',
    'ogbench>=1.2,<1.3',
]
_LEROBOT = [
    # The ffmpeg of older versions cannot pass frames through unchanged.
    'imageio-ffmpeg>=0.6',
    # pyarrow 26 needs NumPy 2.
    *_before_3_12('pyarrow>=15,<26'),
    *_from_3_12('pyarrow>=18,<27'),
]
_REMOTE = [
    # 1.1.7 and later need a newer protobuf than TensorFlow 2.15 allows.
    *_before_3_12('dm-env-rpc>=1.1.6,<1.1.7'),
    *_from_3_12('dm-env-rpc>=1.1.7,<1.2'),
    'grpcio>=1.50',
]
_RAY = ['ray>=2.40']
# For `make docs` only.
_DOCS = ['mkdocs>=1.6,<2', 'mkdocs-material>=9.7,<10']
_EXTRAS = {
    'docs': _DOCS,
    'ray': _RAY,
    'remote': _REMOTE,
    'lerobot': _LEROBOT,
    'ogbench': _OGBENCH,
    'test': [
        *_LEROBOT,
        *_OGBENCH,
        *_RAY,
        *_REMOTE,
        'hypothesis>=6.90',
        'psutil>=5.9',
        'pytest>=8',
        'pytest-xdist>=3.6',
        'ruff>=0.6',
    ],
}

# The gin files are in `gin/`. gin-config owns that package name, so they are
# installed as package data of `parl_tf.configs`.
_CONFIGS = 'parl_tf.configs'


class _BuildWithConstraints(build_py.build_py):
  """Also installs the constraints, which `parl-doctor` compares with."""

  def run(self):
    super().run()
    folder = pathlib.Path(self.build_lib, *_CONFIGS.split('.'))
    if not self.editable_mode:
      for path in _ROOT.glob('constraints*.txt'):
        self.copy_file(str(path), str(folder / path.name))


setuptools.setup(
    cmdclass={'build_py': _BuildWithConstraints},
    name='parl_tf',
    version=_VERSION,
    description=(
        'Policy-agnostic reinforcement learning (PA-RL) on TF-Agents: offline '
        'RL and online fine-tuning of any policy class'
    ),
    long_description=(_ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    # On Python 3.13 only `parl_tf.serving` works, installed with --no-deps.
    python_requires='>=3.10,<3.14',
    packages=[
        *setuptools.find_packages(include=['parl_tf', 'parl_tf.*']),
        'reverb_server',
        _CONFIGS,
    ],
    package_dir={_CONFIGS: 'gin'},
    package_data={'parl_tf': ['py.typed'], _CONFIGS: ['*.gin', '**/*.gin']},
    install_requires=_REQUIREMENTS,
    extras_require=_EXTRAS,
    entry_points={
        'console_scripts': [
            'parl-cache = parl_tf.binaries.cache:run',
            'parl-collect = parl_tf.binaries.collect:run',
            'parl-controls = parl_tf.binaries.controls:run',
            'parl-data = parl_tf.binaries.data:run',
            'parl-doctor = parl_tf.binaries.doctor:run',
            'parl-evaluate = parl_tf.binaries.evaluate:run',
            'parl-export = parl_tf.binaries.export:run',
            'parl-launch = parl_tf.binaries.launch:run',
            'parl-learn = parl_tf.binaries.learn:run',
            'parl-report = parl_tf.binaries.report:run',
            'parl-reverb-server = reverb_server.server:run',
            'parl-search = parl_tf.binaries.search:run',
            'parl-serve = parl_tf.binaries.serve:run',
            'parl-train = parl_tf.binaries.train:run',
        ],
    },
    zip_safe=False,
)
