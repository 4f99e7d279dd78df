"""What `--target` may say: the words that are understood, which go first, and which are refused."""

import pytest

from pipelines.inference.target import find_target, target_name
from spot_net import SpotNet


def model(names, task="multiclass"):
    return SpotNet((16, 16, 1), num_classes=len(names), task=task, class_names=names)


def test_a_name_goes_before_an_index_and_before_the_own_label():
    named = model(("2", "label", "1"))
    assert [find_target(named, target) for target in ("2", "1", 1, "label", "0")] == [0, 2, 1, 1, 0]
    assert [target_name(named, target) for target in (0, None)] == ["2", None]


@pytest.mark.parametrize("target", ["3", "-1", "1.0", "", "Lesion", 3, -1])
def test_what_is_no_class_is_refused(target):
    with pytest.raises(ValueError, match="one of healthy, lesion, cyst, its index, or `label`. Received: target="):
        find_target(model(("healthy", "lesion", "cyst")), target)


def test_own_labels_must_be_known_and_one():
    assert find_target(model(("healthy", "lesion")), "label") == "label"
    with pytest.raises(ValueError, match="several labels; name one of edema, effusion. Received: target='label'"):
        find_target(model(("edema", "effusion"), task="multilabel"), "label")
    with pytest.raises(ValueError, match="without labels"):
        find_target(model(("healthy", "lesion")), "label", labelled=False)
