"""A residual network of one block, by name, for tests that train a DualAttendMed."""

import pytest

from medkeras.models import backbones

# The same for a process of its own.
CODE = """
from medkeras.models import backbones
backbones.RESNETS["resnet_mini"] = backbones.ResNetSize((1,), filters=(64,))
"""
OPTIONS = {"backbone": "resnet_mini", "attention_maps": 4, "reduction": 4}


@pytest.fixture(autouse=True, scope="module")
def mini_backbone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.RESNETS, "resnet_mini", backbones.ResNetSize((1,), filters=(64,)))
        yield
