"""Graphs in memory: matches of a pattern, shortest paths, connected components. Nodes and edges are places.

All searches are bounded in steps and results, since a graph with cycles has paths without number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trailhawk.errors import LimitError, Span

MAX_STEPS = 10_000_000
"""Edges walked in one search."""
MAX_MATCHES = 1_000_000


@dataclass(frozen=True, slots=True)
class EdgePattern:
    """An edge between two node variables: `->`, `<-` or `--`, repeated `low` to `high` times."""

    name: str
    left: str
    right: str
    direction: str
    low: int = 1
    high: int = 1


@dataclass(frozen=True, slots=True)
class Match:
    """The node of each variable; the edges of each edge variable and the nodes between, from its left."""

    nodes: dict[str, int]
    edges: dict[str, list[int]]
    inner: dict[str, list[int]]

    @property
    def length(self) -> int:
        return sum(len(edges) for edges in self.edges.values())


@dataclass
class Search:
    """A graph with what each variable of a pattern may be (no entry: anything).

    `source` and `target` are each edge's ends. `edge_allowed` and `inner_allowed` go by edge variable, the
    latter for the nodes inside its path. `cycles` is all, none or unique_edges.
    """

    count: int
    source: Sequence[int]
    target: Sequence[int]
    span: Span
    node_allowed: dict[str, Sequence[bool]] = field(default_factory=dict)
    edge_allowed: dict[str, Sequence[bool]] = field(default_factory=dict)
    inner_allowed: dict[str, Sequence[bool]] = field(default_factory=dict)
    cycles: str = "unique_edges"

    def __post_init__(self) -> None:
        self.out: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        self.into: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        for edge, (a, b) in enumerate(zip(self.source, self.target, strict=True)):
            self.out[a].append((edge, b))
            self.into[b].append((edge, a))
        self.steps = 0
        self.found = 0
        self.used: set[int] = set()
        self.visited: set[int] = set()

    # --- matches -------------------------------------------------------------------------------------------

    def matches(self, edges: Sequence[EdgePattern], nodes: Sequence[str]) -> Iterator[Match]:
        """Every way the pattern lies in the graph; its edges are connected, `nodes` are all its variables."""
        first = min(nodes, key=self._choices)
        order = in_order(edges, first)
        for start in self._candidates(first):
            self.used, self.visited = set(), {start}
            yield from self._extend(order, 0, Match({first: start}, {}, {}))

    def _choices(self, name: str) -> int:
        allowed = self.node_allowed.get(name)
        return self.count if allowed is None else sum(map(bool, allowed))

    def _candidates(self, name: str) -> Iterator[int]:
        allowed = self.node_allowed.get(name)
        return (node for node in range(self.count) if allowed is None or allowed[node])

    def _extend(self, order: Sequence[EdgePattern], at: int, match: Match) -> Iterator[Match]:
        if at == len(order):
            self._count_match()
            yield match
            return
        edge = order[at]
        forward = edge.left in match.nodes
        start, other = (edge.left, edge.right) if forward else (edge.right, edge.left)
        allowed, known = self.node_allowed.get(other), match.nodes.get(other)
        for path, ends in self._paths(edge, match.nodes[start], forward, known):
            end = ends[-1] if ends else match.nodes[start]
            if (known is not None and known != end) or (allowed is not None and not allowed[end]):
                continue
            walked, inner = list(path), ends[:-1]
            if not forward:
                walked.reverse()
                inner.reverse()
            grown = Match(
                {**match.nodes, other: end},
                {**match.edges, edge.name: walked},
                {**match.inner, edge.name: inner},
            )
            yield from self._extend(order, at + 1, grown)

    def _paths(
        self, edge: EdgePattern, start: int, forward: bool, known: int | None
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Edges and the nodes they lead to, of every walk from a node; both lists change afterwards.

        Where the node at the other end is `known`, that the pattern comes back to it is no cycle; a walk that
        comes back to its own start is one.
        """
        closing = known if self.cycles == "none" and known != start else None
        steps = self._steps_of(edge, forward)
        allowed, inner = self.edge_allowed.get(edge.name), self.inner_allowed.get(edge.name)
        path: list[int] = []
        ends: list[int] = []
        if edge.low == 0:
            yield path, ends
        if edge.high == 0:
            return
        stack = [iter(steps(start))]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                if path:
                    self._leave(path, ends)
                continue
            at, node = step
            self._count_step()
            if (
                (allowed is not None and not allowed[at])
                or (self.cycles == "unique_edges" and at in self.used)
                or (self.cycles == "none" and node in self.visited and node != closing)
            ):
                continue
            path.append(at)
            ends.append(node)
            if node == closing:
                if len(path) >= edge.low:
                    yield path, ends
                path.pop()
                ends.pop()
                continue
            self._enter(at, node)
            if len(path) >= edge.low:
                yield path, ends
            if len(path) < edge.high and (inner is None or inner[node]):
                stack.append(iter(steps(node)))
            else:
                self._leave(path, ends)

    def _enter(self, edge: int, node: int) -> None:
        if self.cycles == "unique_edges":
            self.used.add(edge)
        elif self.cycles == "none":
            self.visited.add(node)

    def _leave(self, path: list[int], ends: list[int]) -> None:
        edge, node = path.pop(), ends.pop()
        if self.cycles == "unique_edges":
            self.used.discard(edge)
        elif self.cycles == "none":
            self.visited.discard(node)

    def _steps_of(self, edge: EdgePattern, forward: bool) -> _Steps:
        if edge.direction == "--":
            return _Steps(self.out, self.into)
        return _Steps(self.out if (edge.direction == "->") is forward else self.into, None)

    # --- shortest paths ------------------------------------------------------------------------------------

    def shortest(self, edge: EdgePattern, *, every: bool) -> Iterator[Match]:
        """The shortest path (or all of that length) from each left to each other right node.

        For one edge variable that is repeated at least 0 or 1 times.
        """
        last = self.node_allowed.get(edge.right)
        for start in self._candidates(edge.left):
            before = self._distances(edge, start, every)
            for end in before:
                if end == start or (last is not None and not last[end]):
                    continue
                for walked, inner in self._back(before, start, end):
                    self._count_match()
                    yield Match({edge.left: start, edge.right: end}, {edge.name: walked}, {edge.name: inner})

    def _distances(self, edge: EdgePattern, start: int, every: bool) -> dict[int, list[tuple[int, int]]]:
        """For each node within reach: the last edges of its shortest paths, with the nodes before them."""
        steps = self._steps_of(edge, forward=True)
        allowed, inner = self.edge_allowed.get(edge.name), self.inner_allowed.get(edge.name)
        before: dict[int, list[tuple[int, int]]] = {start: []}
        level = [start]
        for _ in range(edge.high):
            fresh: dict[int, list[tuple[int, int]]] = {}
            for node in level:
                if node != start and inner is not None and not inner[node]:
                    continue
                for at, end in steps(node):
                    self._count_step()
                    if end in before or (allowed is not None and not allowed[at]):
                        continue
                    if every or end not in fresh:
                        fresh.setdefault(end, []).append((at, node))
            before.update(fresh)
            level = list(fresh)
            if not level:
                break
        return before

    def _back(
        self, before: dict[int, list[tuple[int, int]]], start: int, end: int
    ) -> Iterator[tuple[list[int], list[int]]]:
        """The paths that lead to a node, their edges and inner nodes in order."""
        stack: list[tuple[int, list[int], list[int]]] = [(end, [], [])]
        while stack:
            node, edges, inner = stack.pop()
            if node == start:
                yield edges[::-1], inner[::-1]
                continue
            for edge, previous in reversed(before[node]):
                self._count_step()
                on_the_way = [] if previous == start else [previous]
                stack.append((previous, [*edges, edge], [*inner, *on_the_way]))

    # --- bounds --------------------------------------------------------------------------------------------

    def _count_step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise LimitError(
                f"the pattern walks more than {MAX_STEPS:,} edges",
                self.span,
                hint="narrow it by conditions on its nodes and edges, or shorten its paths",
            )

    def _count_match(self) -> None:
        self.found += 1
        if self.found > MAX_MATCHES:
            raise LimitError(f"the pattern has more than {MAX_MATCHES:,} matches", self.span)


@dataclass(frozen=True, slots=True)
class _Steps:
    """The edges from a node with the nodes they lead to; with a second list in both directions."""

    along: list[list[tuple[int, int]]]
    against: list[list[tuple[int, int]]] | None

    def __call__(self, node: int) -> list[tuple[int, int]]:
        if self.against is None:
            return self.along[node]
        return self.along[node] + self.against[node]


def in_order(edges: Sequence[EdgePattern], first: str) -> list[EdgePattern]:
    """The edges so that each begins at a node that is known by then."""
    known, left, order = {first}, list(edges), []
    while left:
        edge = next(edge for edge in left if edge.left in known or edge.right in known)
        left.remove(edge)
        order.append(edge)
        known |= {edge.left, edge.right}
    return order


def is_connected(edges: Sequence[EdgePattern], nodes: Sequence[str]) -> bool:
    """Do the edges join all of these nodes?"""
    known, left = {nodes[0]}, list(edges)
    while touching := [edge for edge in left if edge.left in known or edge.right in known]:
        for edge in touching:
            known |= {edge.left, edge.right}
            left.remove(edge)
    return not left and known >= set(nodes)


def components(count: int, source: Sequence[int], target: Sequence[int], *, strong: bool) -> list[int]:
    """The component of each node, numbered from 0 as the edges name them, then the nodes without edges."""
    roots = _strong(count, source, target) if strong else _weak(count, source, target)
    numbers: dict[int, int] = {}
    order = [node for ends in zip(source, target, strict=True) for node in ends]
    for node in (*order, *range(count)):
        numbers.setdefault(roots[node], len(numbers))
    return [numbers[root] for root in roots]


def _weak(count: int, source: Sequence[int], target: Sequence[int]) -> list[int]:
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in zip(source, target, strict=True):
        parent[root(a)] = root(b)
    return [root(node) for node in range(count)]


def _strong(count: int, source: Sequence[int], target: Sequence[int]) -> list[int]:
    """Tarjan's algorithm without recursion."""
    out: list[list[int]] = [[] for _ in range(count)]
    for a, b in zip(source, target, strict=True):
        out[a].append(b)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    roots = [-1] * count
    pending: list[int] = []
    for first in range(count):
        if first in index:
            continue
        index[first] = low[first] = len(index)
        pending.append(first)
        stack = [(first, iter(out[first]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[node])
                if low[node] == index[node]:
                    while roots[node] < 0:
                        roots[pending.pop()] = node
            elif following not in index:
                index[following] = low[following] = len(index)
                pending.append(following)
                stack.append((following, iter(out[following])))
            elif roots[following] < 0:
                low[node] = min(low[node], index[following])
    return roots
