"""YAML as people write it: rules, playbooks, descriptions of sources, prices."""

from __future__ import annotations

import yaml


class Loader(yaml.CSafeLoader):
    """YAML in which no mapping has one key twice, of which the last would be read and the first lost."""

    def get_single_node(self) -> yaml.Node | None:
        return _sound(super().get_single_node())

    def get_node(self) -> yaml.Node | None:
        return _sound(super().get_node())


def _sound(tree: yaml.Node | None) -> yaml.Node | None:
    """The tree, looked through; ConstructorError at the second of two equal keys."""
    left = [] if tree is None else [tree]
    seen: set[int] = set()  # an alias is the node of its anchor, and may stand inside it
    while left:
        node = left.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _no_key_twice(node)
            left += (part for pair in node.value for part in pair)
        else:
            left += node.value
    return tree


def _no_key_twice(mapping: yaml.MappingNode) -> None:
    keys: dict[tuple[str, str], yaml.Node] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        first = keys.setdefault((key.tag, key.value), key)
        if first is not key:
            told = f"'{key.value}' stands at line {first.start_mark.line + 1} and again"
            raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
