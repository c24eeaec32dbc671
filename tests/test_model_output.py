from collections import OrderedDict

import pytest
import torch

from medseg.model_output import Output, as_output, logits_of

FULL, HALF = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)


def test_an_output_is_unchanged():
    output = Output(FULL, (HALF,), HALF)
    assert as_output(output) is output


def test_a_tensor_is_the_logits():
    assert as_output(FULL) == Output(FULL, (), None)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_is_finest_first(kind):
    output = as_output(kind([FULL, HALF]))
    assert output.logits is FULL
    assert output.deep == (HALF,)
    assert output.aux is None


def test_a_mapping_has_out_and_perhaps_aux():
    output = as_output(OrderedDict(out=FULL, aux=HALF, features=[HALF]))
    assert output.logits is FULL
    assert output.deep == ()
    assert output.aux is HALF
    assert as_output({"out": FULL}).aux is None


def test_logits_of_every_form():
    for value in (FULL, Output(FULL), [FULL, HALF], {"out": FULL}):
        assert logits_of(value) is FULL


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType"),
        ([], "a list of nothing"),
        ([FULL, None], "a list of Tensor, NoneType"),
        ({"logits": FULL}, "'logits': Tensor"),
        ({"out": [FULL]}, "'out': list"),
        ({"out": FULL, "aux": [FULL]}, "'aux': list"),
    ],
)
def test_anything_else_raises_with_its_name(value, message):
    with pytest.raises(TypeError, match=message):
        as_output(value)


def test_a_stack_of_deep_outputs_raises():
    with pytest.raises(TypeError, match=r"torch.unbind\(logits, dim=1\)"):
        as_output(torch.zeros(1, 3, 2, 8, 8, 8))
