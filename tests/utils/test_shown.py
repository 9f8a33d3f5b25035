import pytest

from coqui_scl_plugin.utils.shown import printable, shorten


@pytest.mark.parametrize("text", ["", "a", "é/ß 1.wav", "x" * 200])
def test_what_fits_is_shown_as_it_is(text):
    assert shorten(text) == printable(text) == text


@pytest.mark.parametrize("text", ["x" * 201, "x" * 200_000, "\n" * 199, "\udce9" * 5000, "\U0001f600\0" * 100_000])
def test_what_does_not_fit_is_cut(text):
    shown = shorten(text)
    assert len(shown) <= 200
    assert f"({len(text)} characters)" in shown
    assert shown.isprintable()
    shown.encode()


def test_what_cannot_be_shown_is_an_escape():
    assert shorten("a\nb\x1b[31m\udce9") == r"a\nb\x1b[31m\udce9"
