"""The constructor is the declaration: `params` that do not fit it are refused with the path of their key."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from coqui_scl_plugin.errors import ConfigError, EncoderError, SclError
from coqui_scl_plugin.plugins.parameters import build, check_params, check_value

if TYPE_CHECKING:
    from nowhere import Something

PATH = "scl.loss.params"


class Typical:
    """A loss with defaults, a range, a choice, and one parameter without an annotation."""

    def __init__(
        self,
        size: int,
        scale: float = 1.0,
        margin: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        kind: Literal["angle", "cosine"] = "angle",
        names: list[str] | None = None,
        *,
        strict: bool = False,
        anything=None,
    ) -> None:
        self.given = (size, scale, margin, kind, names, strict, anything)


class Greedy:
    def __init__(self, size: int = 1, **others: object) -> None:
        self.given = {"size": size} | others


class Unevaluable:
    def __init__(self, thing: "Something" = None, scale: "float" = 1.0) -> None:  # type: ignore[assignment]
        self.given = (thing, scale)


class Bare:
    """A class without a constructor of its own."""


class Refusing:
    def __init__(self, size: int = 1, error: str = "") -> None:
        if size % 2:
            raise {"value": ValueError, "type": TypeError, "own": EncoderError, "runtime": RuntimeError}[error](
                f"{size} is odd"
            )


def refusal(cls: type, params: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check_params(cls, params, PATH)
    return str(caught.value)


def test_defaults_stay_and_values_arrive() -> None:
    assert build(Typical, {"size": 3}, PATH).given == (3, 1.0, 0.2, "angle", None, False, None)
    params = {"size": 3, "scale": 2.5, "margin": 0.0, "kind": "cosine", "names": ["a"], "strict": True, "anything": {}}
    assert build(Typical, params, PATH).given == (3, 2.5, 0.0, "cosine", ["a"], True, {})


def test_a_whole_number_will_do_for_a_float() -> None:
    assert build(Typical, {"size": 3, "scale": 2}, PATH).given[1] == 2


def test_an_unknown_parameter_is_named_with_the_nearest_one() -> None:
    message = refusal(Typical, {"size": 1, "margn": 0.1})
    assert message.startswith(f"{PATH}.margn: Typical has no such parameter. Did you mean 'margin'?")
    assert "kind, margin, names, scale, size, strict" in message


def test_an_unknown_parameter_far_from_all_gets_no_proposal() -> None:
    message = refusal(Typical, {"size": 1, "qqqqqq": 0.1})
    assert message.startswith(f"{PATH}.qqqqqq")
    assert "Did you mean" not in message


def test_self_is_no_parameter() -> None:
    assert refusal(Typical, {"size": 1, "self": 2}).startswith(f"{PATH}.self")


def test_a_missing_parameter_is_named_with_what_came() -> None:
    assert refusal(Typical, {"scale": 2.0}) == f"{PATH}: Typical needs size, got ['scale']."
    assert refusal(Typical, {}) == f"{PATH}: Typical needs size, got no parameters."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "3"),
        ("size", 3.0),
        ("size", True),
        ("size", None),
        ("scale", "2.0"),
        ("scale", True),
        ("scale", [1.0]),
        ("kind", 1),
        ("names", "a"),
        ("names", ["a", 1]),
        ("strict", 1),
        ("strict", "yes"),
    ],
)
def test_a_value_of_another_type_is_not_converted(name: str, value: Any) -> None:
    message = refusal(Typical, {"size": 1} | {name: value})
    assert message.startswith((f"{PATH}.{name} = {value!r}", f"{PATH}.{name}.1 = "))


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan, math.inf, -math.inf])
def test_a_value_out_of_its_range_is_refused(value: float) -> None:
    assert refusal(Typical, {"size": 1, "margin": value}).startswith(f"{PATH}.margin = {value!r}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_without_a_range_must_still_be_finite(value: float) -> None:
    assert refusal(Typical, {"size": 1, "scale": value}).startswith(f"{PATH}.scale = {value!r}")


def test_another_choice_is_refused_with_the_choices() -> None:
    message = refusal(Typical, {"size": 1, "kind": "angel"})
    assert message.startswith(f"{PATH}.kind = 'angel'")
    assert "'angle' or 'cosine'" in message


def test_a_parameter_without_an_annotation_takes_any_value() -> None:
    for value in (1, "one", None, [1], {"a": 1}):
        assert build(Typical, {"size": 1, "anything": value}, PATH).given[-1] == value


def test_keyword_arguments_take_any_name_and_leave_declared_ones_checked() -> None:
    assert build(Greedy, {"size": 2, "whatever": "x"}, PATH).given == {"size": 2, "whatever": "x"}
    assert refusal(Greedy, {"size": "2", "whatever": "x"}).startswith(f"{PATH}.size = '2'")


def test_an_annotation_that_cannot_be_evaluated_is_checked_by_name_only() -> None:
    assert build(Unevaluable, {"thing": object, "scale": 2.0}, PATH).given == (object, 2.0)
    assert refusal(Unevaluable, {"thin": 1}).startswith(f"{PATH}.thin: Unevaluable has no such parameter. Did you mean")


def test_a_class_without_a_constructor_takes_nothing() -> None:
    assert isinstance(build(Bare, {}, PATH), Bare)
    assert refusal(Bare, {"scale": 1.0}).startswith(f"{PATH}.scale")


@pytest.mark.parametrize("error", ["value", "type"])
def test_what_the_constructor_refuses_is_a_config_error_with_the_path(error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Refusing, {"size": 3, "error": error}, PATH)
    assert str(caught.value).startswith(f"{PATH}: Refusing refuses ")
    assert "3 is odd" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError | TypeError)


def test_errors_of_ours_and_faults_of_theirs_pass_unchanged() -> None:
    with pytest.raises(SclError, match=r"^3 is odd$") as caught:
        build(Refusing, {"size": 3, "error": "own"}, PATH)
    assert type(caught.value) is EncoderError
    with pytest.raises(RuntimeError, match=r"^3 is odd$"):
        build(Refusing, {"size": 3, "error": "runtime"}, PATH)


def test_params_are_checked_before_the_constructor_runs() -> None:
    with pytest.raises(ConfigError, match=rf"^{PATH}\.size = '3'"):
        build(Refusing, {"size": "3", "error": "value"}, PATH)


def test_a_nested_value_is_named_by_its_own_path() -> None:
    with pytest.raises(ConfigError, match=r"^scl\.x\.1 = "):
        check_value([1, "2"], list[int], "scl.x")
    with pytest.raises(ConfigError, match=r"^scl\.x\.b = "):
        check_value({"a": 1, "b": "2"}, dict[str, int], "scl.x")


def test_a_pydantic_model_may_be_an_annotation() -> None:
    class Inner(BaseModel):
        size: int

    check_value(Inner(size=1), Inner, "scl.x")
    with pytest.raises(ConfigError, match=r"^scl\.x = 5"):
        check_value(5, Inner, "scl.x")


@pytest.mark.parametrize("value", [[1.0, math.nan], {"a": math.inf}])
def test_a_number_that_is_not_finite_is_found_inside_a_value_as_well(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^scl\.x"):
        check_value(value, list[float] | dict[str, float], "scl.x")
