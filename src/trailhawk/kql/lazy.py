"""Registries whose rarer entries are imported when first asked for, so that a short query starts fast."""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from importlib import import_module
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_IMPORTS = threading.RLock()


class Registry(dict[K, V]):
    """A dictionary that modules fill as they are imported; `later` names those that are imported at need.

    They are imported when a key is missing, or when all entries are asked for. A key that one of `peers`
    holds is no reason: a function's name is looked for among the aggregates too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._later: tuple[str, ...] = ()
        self.peers: tuple[Registry[K, Any], ...] = ()

    def later(self, *modules: str) -> None:
        """Import these modules when they are needed."""
        self._later += modules

    def complete(self) -> None:
        """Import what is left; what these imports look up themselves is looked up in what is there."""
        with _IMPORTS:
            while self._later:
                module, self._later = self._later[0], self._later[1:]
                import_module(module)

    def _has(self, key: object) -> bool:
        if dict.__contains__(self, key):
            return True
        if not any(dict.__contains__(peer, key) for peer in self.peers):
            self.complete()
        with _IMPORTS:  # another thread may be importing
            return dict.__contains__(self, key)

    def __contains__(self, key: object) -> bool:
        return self._has(key)

    def __missing__(self, key: K) -> V:
        if self._has(key):
            return dict.__getitem__(self, key)
        raise KeyError(key)

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        return self[key] if self._has(key) else default

    def __iter__(self) -> Iterator[K]:
        self.complete()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self.complete()
        return dict.__len__(self)

    def keys(self) -> KeysView[K]:  # type: ignore[override]  # the view of a plain dictionary
        self.complete()
        return dict.keys(self)

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        self.complete()
        return dict.values(self)

    def items(self) -> ItemsView[K, V]:  # type: ignore[override]
        self.complete()
        return dict.items(self)
