"""The referee's assertions say what they compared, as a test's own do."""

import pytest

pytest.register_assert_rewrite("referee")
