import re
import warnings

import pytest
import torch

from vse_gpo.pooling.kernels.trial import kernels_run


def test_a_trial_that_succeeds_tells_nothing():
    with torch.inference_mode(), warnings.catch_warnings(action="error"):
        assert kernels_run(lambda: torch.ones(1, requires_grad=True).sum().requires_grad, "of a test", "nothing runs")


def failing() -> bool:
    raise RuntimeError("no compiler\nsecond line")


@pytest.mark.parametrize(
    ("trial", "reason"), [(failing, "RuntimeError: no compiler"), (lambda: False, "they gave wrong numbers")]
)
def test_a_trial_that_fails_tells_why_and_what_runs_instead(trial, reason):
    said = f"the Triton kernels of a test do not run ({reason}); a loop runs, slower"
    with pytest.warns(UserWarning, match=f"^{re.escape(said)}$"):
        assert not kernels_run(trial, "of a test", "a loop runs, slower")
