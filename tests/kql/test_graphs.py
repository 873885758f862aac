"""Searches in graphs: bounds, and the laws that hold for any graph."""

from __future__ import annotations

import pytest

from trailhawk.errors import LimitError, Span
from trailhawk.kql import graphs

SPAN = Span(0, 1)


def complete(count: int) -> tuple[list[int], list[int]]:
    """The edges of a graph in which every node leads to every other."""
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_a_dense_graph_ends_in_an_error_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_STEPS", 10_000)
    source, target = complete(12)
    search = graphs.Search(12, source, target, SPAN, cycles="all")
    with pytest.raises(LimitError, match="walks more than 10,000 edges"):
        list(search.matches([graphs.EdgePattern("e", "a", "b", "->", 1, 50)], ["a", "b"]))


def test_matches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_MATCHES", 100)
    source, target = complete(12)
    search = graphs.Search(12, source, target, SPAN)
    with pytest.raises(LimitError, match="more than 100 matches"):
        list(search.matches([graphs.EdgePattern("e", "a", "b", "->")], ["a", "b"]))


def test_paths_of_no_length_stay_where_they_are() -> None:
    search = graphs.Search(2, [0], [1], SPAN)
    found = list(search.matches([graphs.EdgePattern("e", "a", "b", "->", 0, 1)], ["a", "b"]))
    assert [(match.nodes["a"], match.nodes["b"], match.edges["e"]) for match in found] == [
        (0, 0, []),
        (0, 1, [0]),
        (1, 1, []),
    ]


def test_a_loop_is_a_step_in_each_direction() -> None:
    search = graphs.Search(1, [0], [0], SPAN)
    assert len(list(search.matches([graphs.EdgePattern("e", "a", "b", "--")], ["a", "b"]))) == 2


def test_a_pattern_read_from_its_other_end_gives_the_same_paths() -> None:
    source, target = [0, 1, 1, 2], [1, 2, 3, 3]
    pattern = [graphs.EdgePattern("e", "a", "b", "->", 1, 3)]
    forward = graphs.Search(4, source, target, SPAN, node_allowed={"a": [True, False, False, False]})
    backward = graphs.Search(4, source, target, SPAN, node_allowed={"b": [False, False, False, True]})
    paths = {
        tuple(match.edges["e"]) for match in forward.matches(pattern, ["a", "b"]) if match.nodes["b"] == 3
    }
    back = {
        tuple(match.edges["e"]) for match in backward.matches(pattern, ["a", "b"]) if match.nodes["a"] == 0
    }
    assert paths == back == {(0, 2), (0, 1, 3)}


@pytest.mark.parametrize("strong", [False, True])
def test_a_long_chain_has_its_components_without_recursion(strong: bool) -> None:
    count = 20_000
    chain = list(range(count - 1))
    found = graphs.components(count, chain, [node + 1 for node in chain], strong=strong)
    assert found == (list(range(count)) if strong else [0] * count)


def test_a_circle_is_one_strong_component() -> None:
    assert graphs.components(4, [0, 1, 2, 2], [1, 2, 0, 3], strong=True) == [0, 0, 0, 1]
