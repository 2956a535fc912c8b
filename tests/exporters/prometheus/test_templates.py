"""Templates: the same text whoever puts the numbers in, Python or C."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmetrics import native
from shmetrics.exporters.prometheus.templates import Template, _filled, indices, joined

FILLERS = [_filled]
if native.IS_BUILT:
    from shmetrics import _native

    FILLERS.append(_native.filled)


@pytest.fixture(params=FILLERS, ids=["Python", "C"][: len(FILLERS)])
def fill(request):
    """What puts numbers in."""
    return request.param


def test_numbers_are_put_in_their_places(fill):
    template = Template(["a 100% ", "é "], " end\n")
    assert template.filled([1.0, 2.5e7], None, fill) == "a 100% 1.0é 2.5e+07 end\n".encode()
    assert template.filled([0.5, 7, -0.0], indices([2, 0]), fill) == "a 100% -0.0é 0.5 end\n".encode()
    assert template.formatted(["x", "y"]) == "a 100% xé y end\n"


def test_templates_are_joined_to_one(fill):
    whole = joined([Template([], "# HELP\n"), Template(["a "]), Template(["b ", "c "]), Template([], "# EOF\n")])
    assert whole.filled([1, 2, 3], None, fill) == b"# HELP\na 1.0\nb 2.0c 3.0\n# EOF\n"
    assert joined([]).filled([], None, fill) == b""


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text(max_size=8), max_size=12),
    st.text(max_size=8),
    st.lists(st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.booleans()), min_size=12, max_size=12),
    st.randoms(use_true_random=False),
)
def test_they_are_filled_the_same_with_whatever_numbers(before, tail, numbers, draw):
    texts = [text.encode("utf-8", "replace").decode() for text in before]
    template = Template(texts, tail.encode("utf-8", "replace").decode())
    which = indices(draw.randrange(12) for _ in texts)
    for given_numbers, chosen in ((numbers[: len(texts)], None), (numbers, which), (tuple(numbers), which)):
        assert len({template.filled(given_numbers, chosen, each) for each in FILLERS}) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_numbers_are_wanted_as_there_are_places(fill, count):
    with pytest.raises((ValueError, TypeError)):
        Template(["a ", "b "]).filled([1.0] * count, None, fill)


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
@pytest.mark.parametrize(
    ("places", "numbers", "which"),
    [
        ([3], [1.0], None),
        ([-1], [1.0], None),
        ([2, 1], [1.0, 1.0], None),
        ([1], [1.0], indices([1])),
        ([1], [1.0], indices([-1])),
        ([1], [1.0], [0]),
        ([1], 1.0, None),
    ],
)
def test_what_does_not_fit_is_refused(places, numbers, which):
    with pytest.raises((ValueError, TypeError)):
        _native.filled(b"ab", indices(places), "", numbers, which, {}, 9)
