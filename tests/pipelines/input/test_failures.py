"""An error of our Python code inside a dataset comes back as what it was."""

import pytest
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.input.failures import noting, original


def failing(error):
    def read(index):
        raise error

    return tf.data.Dataset.range(1).map(lambda i: tf.numpy_function(noting(read), [i], tf.int64))


def caught_from(dataset):
    with pytest.raises(tf.errors.OpError) as caught:
        list(dataset)
    return caught.value


@pytest.mark.parametrize(
    "error", [InputError("Cannot read a/b.png: truncated"), FileNotFoundError("no a.png"), KeyError("bug")]
)
def test_the_error_itself_comes_back(error):
    assert original(caught_from(failing(error))) is error


def test_an_error_of_tensorflow_stays_and_so_does_any_other():
    bad = caught_from(tf.data.Dataset.range(1).map(lambda i: tf.gather(tf.constant([1]), i + 5)))
    assert original(bad) is bad
    other = ValueError("elsewhere")
    assert original(other) is other


def test_an_error_that_was_noted_and_handled_is_not_taken_for_a_later_one():
    caught_from(failing(InputError("Cannot read first.png")))
    later = InputError("Cannot read second.png")
    assert original(caught_from(failing(later))) is later
    assert original(ValueError("third")).args == ("third",)
