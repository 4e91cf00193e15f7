"""Each claim of the article that can be measured, on the numbers that its pages compute."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.docs.pages import run

pytestmark = pytest.mark.slow

Names = dict[str, Any]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Names]]:
    """Run a chapter once, over the data that ``ROT180_DOCS_DATA`` names, or the photographs."""
    known: dict[str, Names] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROT180_CACHE", str(tmp_path_factory.getbasetemp() / "rot180-cache"))
        patch.setenv("ROT180_DOCS_DATA", os.environ.get("ROT180_DOCS_DATA", "photos"))

        def page(name: str) -> Names:
            if name not in known:
                known[name] = run(f"article/{name}")
            return known[name]

        yield page


# 1. A perceptron, on your fingers.


def test_the_error_of_a_neuron_has_one_product_for_each_connection_that_leaves_it(read) -> None:
    page = read("perceptron")
    found = page["trace"].delta("hidden", (0, 1))
    assert len(found.terms) == 3
    assert found.total == pytest.approx(found.value, rel=1e-12)


def test_counting_agrees_with_the_definition_of_the_error(read) -> None:
    page = read("perceptron")
    assert page["counted"] == pytest.approx(page["measured"], rel=1e-8)


# 2. Cut and share: a convolution.


def test_what_is_left_of_a_perceptron_is_a_correlation(read) -> None:
    page = read("convolution")
    assert np.array_equal(page["slid"].reshape(-1), page["dense"])
    assert page["line"].weight.size == 15
    assert page["line"].uses.tolist() == [[[[3, 3, 3]]]]


def test_the_connections_that_are_left_are_those_that_the_text_counts(read) -> None:
    page = read("convolution")
    assert (page["kept"], page["total"], page["plane"].uses.size) == (36, 64, 9)
    # Of 32 rows of outputs times 5 of the kernel, 2 + 1 at either border fall beside the image.
    assert (page["wide"].weight >= 0).sum() == (32 * 5 - 6) ** 2
    assert page["wide"].weight.size == 32**4


def test_a_convolution_is_a_correlation_with_the_rotated_kernel(read) -> None:
    page = read("convolution")
    a, w = page["a"], page["w"]
    by_definition = np.zeros((2, 2))
    for (y, x), i, j in ((at, i, j) for at in np.ndindex(2, 2) for i in range(3) for j in range(3)):
        by_definition[y, x] += w[i, j] * a[y + 2 - i, x + 2 - j]
    found = page["correlation"](a[None, None], page["turned"][None, None])[0, 0]
    assert np.array_equal(found, by_definition)


# 3. The error flows back.


def test_read_down_its_column_an_input_meets_the_kernel_reversed(read) -> None:
    page = read("error")
    assert page["line"].weight[:, 2].tolist() == [2, 1, 0]
    names = [divmod(int(weight), 3) for weight in page["plane"].weight[:, 5]]
    assert names == [(1, 1), (1, 0), (0, 1), (0, 0)]


def test_every_step_of_the_derivation_gives_the_same_error(read) -> None:
    w, delta = np.array([2.0, -3.0, 5.0]), np.array([1.0, 4.0, -2.0])
    k, inputs = len(w), 5

    def error(y: int) -> float:
        return float(delta[y]) if 0 <= y < len(delta) else 0.0

    step2 = [sum(error(y) * w[x - y] for y in range(3) if 0 <= x - y < k) for x in range(inputs)]
    step3 = [sum(w[i] * error(x - i) for i in range(k)) for x in range(inputs)]
    step4 = [sum(w[::-1][j] * error(x - (k - 1) + j) for j in range(k)) for x in range(inputs)]
    transposed = read("error")["line"].matrix(w[None, None, None]).T @ delta
    assert step2 == step3 == step4 == transposed.tolist()


def test_four_ways_lead_to_the_same_errors(read) -> None:
    page = read("error")
    assert len(page["ways"]) == 4
    for found in page["ways"].values():
        assert np.abs(found - page["worked"].error).max() < 1e-7


@pytest.mark.parametrize("operation", ["correlation", "convolution"])
def test_exactly_one_direction_carries_the_rotation(read, operation: str) -> None:
    page = read("error")
    found = page["try_operation"](page["worked"], operation)
    assert found.error_difference < 1e-12
    assert found.wrong_way_difference > 1


def test_without_the_rotation_something_else_than_the_error_arrives(read) -> None:
    page = read("error")
    assert page["same"] < 1e-12
    assert abs(page["alike"]) < 0.4


def test_stride_padding_and_groups_are_right_by_finite_differences(read) -> None:
    lines = [line for line in read("error")["out"].splitlines() if "relative error" in line]
    assert len(lines) == 4
    for line in lines:
        assert float(line.split("relative error ")[1].split()[0]) < 1e-7


# 4. The weights, and the five steps.


def test_the_gradient_of_a_weight_is_the_sum_over_the_connections_that_share_it(read) -> None:
    page = read("weights")
    assert np.array_equal(page["shared"], page["worked"].gradient)


def test_the_activation_in_the_gradient_is_that_of_the_layer_below(read) -> None:
    page = read("weights")
    assert page["right"] < 1e-7
    assert page["slip"] > 0.5


def test_a_bias_takes_the_sum_over_positions(read) -> None:
    page = read("weights")
    assert page["bias_off"] < 1e-7
    mean = page["delta"].mean((0, 2, 3))
    assert np.abs(mean - page["measured_bias"]).max() > 0.5 * np.abs(page["measured_bias"]).max()


def test_with_a_bias_for_each_position_a_layer_no_longer_shifts_with_the_image(read) -> None:
    page = read("weights")
    assert page["shift_one"] < 1e-12
    assert page["shift_map"] > 0.1


def test_the_five_steps_train_a_network(read) -> None:
    page = read("weights")
    costs = [float(one.split()[-1]) for one in page["out"].splitlines() if one.startswith("epoch")]
    assert costs == sorted(costs, reverse=True)
    assert page["chance"] == 1 / 8
    assert page["reached"] > 0.45


# 5. Features, back to pixels.


def test_switches_put_a_value_where_it_was_and_repetition_everywhere(read) -> None:
    page = read("features")
    a, maxima = page["a"][0, 0], page["maxima"][0, 0]
    kept = page["by_switches"][0, 0]
    assert np.array_equal(kept[kept != 0], a[kept != 0])
    assert sorted(kept[kept != 0]) == sorted(maxima.reshape(-1))
    assert np.array_equal(page["by_repeat"][0, 0], np.kron(maxima, np.ones((2, 2))))


def test_a_unit_of_the_first_layer_is_its_activation_times_the_kernel(read) -> None:
    page = read("features")
    assert page["p"].activation > 1
    assert page["first"] < 1e-6


def test_two_engines_carry_every_feature_of_the_second_layer_to_the_same_pixels(read) -> None:
    assert read("features")["second"] < 1e-5


def test_few_features_are_explained_by_colour(read) -> None:
    page = read("features")
    assert len(page["alive"]) > 16
    assert 0 < page["by_colour"] < len(page["alive"]) / 2


# 6. What such pictures can tell, and what they cannot.


def test_each_rectifier_takes_the_methods_further_from_the_gradient(read) -> None:
    found = read("limits")["agreement"]
    for method in ("deconvnet", "guided"):
        first, second, score = (found[layer][method] for layer in ("conv1", "conv2", "head"))
        assert first == pytest.approx(1, abs=1e-5)
        assert first > second + 0.2 > score + 0.4
        assert score < 0.4


def test_no_pixel_outside_its_receptive_field_changes_a_unit(read) -> None:
    page = read("limits")
    assert page["before"] == page["after"] > 0
    assert not np.array_equal(page["changed"].numpy(), page["x"][0].numpy())


def test_without_switches_a_unit_has_the_same_picture_on_every_image(read) -> None:
    page = read("limits")
    assert page["spread"]["repeat"] == pytest.approx(1, abs=1e-5)
    assert page["spread"]["switches"] < 0.9
    assert len(page["fired"]) > 5


def test_guided_pictures_hardly_depend_on_random_layers(read) -> None:
    kept = read("limits")["kept"]
    for stage in ("random head", "and conv2", "and conv1"):
        assert kept[stage, "guided"] > kept[stage, "deconvnet"] > kept[stage, "gradient"]
    assert kept["random head", "guided"] > 0.5
    assert kept["and conv2", "guided"] > 0.4
    assert kept["random head", "gradient"] < 0.25


def test_guided_pictures_hardly_depend_on_the_class(read) -> None:
    between = read("limits")["between"]
    for stage in ("trained", "and conv1"):
        assert between[stage, "guided"] > 0.7
        assert between[stage, "guided"] > between[stage, "deconvnet"] > 0.4
        assert abs(between[stage, "gradient"]) < 0.15


def test_switches_let_a_random_network_recover_edges(read) -> None:
    recovered = read("limits")["recovered"]
    for method in ("deconvnet", "guided"):
        assert recovered[method, "switches"] > 0.15
        assert recovered[method, "switches"] > recovered[method, "repeat"] + 0.1
    assert abs(recovered["deconvnet", "repeat"]) < 0.1
