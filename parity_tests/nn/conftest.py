from __future__ import annotations

import pytest

# so that a failed assertion in the shared checks shows its values
pytest.register_assert_rewrite("parity_tests.compare", "parity_tests.nn.cases")
