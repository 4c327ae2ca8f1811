from __future__ import annotations

import pytest
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.cases import Case, case_and_check, run

CASES = [
    Case("plain", tnn.Linear, nn.Linear, (3, 5), x=(4, 3)),
    Case("no-bias", tnn.Linear, nn.Linear, (3, 5), {"bias": False}, x=(4, 3)),
    Case("3-d", tnn.Linear, nn.Linear, (3, 5), x=(2, 4, 3)),
    Case("vector", tnn.Linear, nn.Linear, (3, 5), x=(3,)),
    Case("square", tnn.Linear, nn.Linear, (4, 4), x=(2, 4)),
    Case("empty", tnn.Linear, nn.Linear, (3, 5), x=(0, 3)),
    Case("offset", tnn.Linear, nn.Linear, (784, 5), x=(3, 784), offset=10.0),
    Case("bilinear", tnn.Bilinear, nn.Bilinear, (3, 4, 5), x=[(2, 3), (2, 4)]),
    Case("bilinear-3-d", tnn.Bilinear, nn.Bilinear, (3, 4, 5), x=[(2, 6, 3), (2, 6, 4)]),
    Case("bilinear-no-bias", tnn.Bilinear, nn.Bilinear, (3, 4, 5, False), x=[(2, 3), (2, 4)]),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)
