"""Shared by the tests of sources."""

import pytest


@pytest.fixture(params=[False, True], ids=["indexed", "streamed"])
def streaming(request):
    return request.param
