import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.builders import training_config
from tests.training.test_learner import OBSERVATIONS, batch, learner
from training.compiled import has_compiler
from training.elasticity import Elasticity
from training.learner import UPDATES_WORTH_COMPILING, is_worth_compiling

ROOT = Path(__file__).parents[2]
BROKEN = """
import sys, warnings
from pathlib import Path
from tests.training.builders import training_config
from tests.training.test_learner import batch, learner
import training.learner
training.learner.UPDATES_WORTH_COMPILING = 0
made = learner(training_config(Path(sys.argv[1]), compile_updates="auto"))
print(made.is_compiled)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    made.update(batch(0))
said = any("done in parts" in str(each.message) for each in caught)
print(made.is_compiled, made.num_updates, said)
"""


# Each takes the C++ compiler some twenty seconds.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ({}, {"target_update": "soft", "target_blend": 0.1, "gradient_norm_limit": 0.01}),
        (
            {"dueling": True, "layer_norm": True, "distribution": {"kind": "quantiles", "size": 5}},
            # A quantile's gradient jumps where it meets its target: large steps make more of it
            # than rounding is worth.
            {"optimiser": "rmsprop", "double": False, "learning_rate": 0.002},
        ),
        (
            {
                "noise_scale": 0.5,
                "distribution": {"kind": "categorical", "minimum": -2, "maximum": 2, "size": 5},
            },
            {},
        ),
    ],
    ids=["values", "quantiles", "noisy categories"],
)
def test_compiled_updates_equal_those_done_in_parts(
    tmp_path: Path, network: dict[str, Any], changes: dict[str, Any]
) -> None:
    learners = [
        learner(
            training_config(tmp_path, compile_updates=mode, **{"learning_rate": 0.02} | changes),
            **network,
        )
        for mode in ("always", "never")
    ]
    held = torch.cat([each.detach().flatten() for each in learners[0].online_network.parameters()])
    for each in learners:
        each.begin_from(
            learners[0].online_network, Elasticity(held, torch.linspace(0, 2, len(held)))
        )
    assert [each.is_compiled for each in learners] == [True, False]
    for seed in range(20):
        figures = [each.update(batch(seed)) for each in learners]
        for compiled, plain in zip(*figures, strict=True):
            torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)
    for each in learners:
        each.online_network.eval()
        each.target_network.eval()
    compiled, plain = learners
    for name in ("online_network", "target_network"):
        torch.testing.assert_close(
            getattr(compiled, name)(OBSERVATIONS),
            getattr(plain, name)(OBSERVATIONS),
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.mark.slow
def test_a_compiler_that_fails_leaves_updates_that_are_done_in_parts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False", "1", "True"]


def test_a_run_of_few_updates_is_not_compiled(tmp_path: Path) -> None:
    config = training_config(tmp_path)
    assert config.num_updates < UPDATES_WORTH_COMPILING
    assert not is_worth_compiling(config)
    assert is_worth_compiling(training_config(tmp_path, compile_updates="always"))


def test_a_long_run_is_compiled_where_there_is_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(tmp_path, total_steps=400_000)
    compiler = tmp_path / "my-compiler"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert is_worth_compiling(config)
    assert not is_worth_compiling(
        training_config(tmp_path, total_steps=400_000, compile_updates="never")
    )
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_compiler()
    assert not is_worth_compiling(config)


def test_convolutions_are_bound_by_arithmetic_and_not_compiled(tmp_path: Path) -> None:
    config = training_config(
        tmp_path, total_steps=400_000, convolutions="nature", normalise_observations=False
    )
    assert not is_worth_compiling(config)


@pytest.mark.slow
def test_a_compiled_update_refuses_a_batch_of_another_size(tmp_path: Path) -> None:
    learns = learner(training_config(tmp_path, compile_updates="always"))
    learns.update(batch(0))
    smaller = type(batch(0))(*(column[:7] for column in batch(1)))
    before = learns.tensors()["online"].clone()
    with pytest.raises(AssertionError):
        learns.update(smaller)
    torch.testing.assert_close(learns.tensors()["online"], before, rtol=0, atol=0)
