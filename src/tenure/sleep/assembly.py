"""assemble(parent, add, remove): the only way to make a version from another one.

Pure: a manifest in, a manifest out. Called by the night and by forgetting.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from tenure.types import DeltaRef, ModuleRef, Version


def assemble(
    parent: Version,
    *,
    modules: Sequence[ModuleRef] = (),
    deltas: Sequence[DeltaRef] = (),
    router: str | None = None,
    remove: Collection[str] = (),
) -> Version:
    """The parent plus `modules` and `deltas`, minus every module or delta whose digest is in `remove`.

    `router` is the digest of the router that decides over the result (None keeps the parent's). Order is kept; what is
    there already isn't added twice.
    """
    known_modules = {m.digest for m in parent.modules}
    known_deltas = {d.digest for d in parent.deltas}
    all_modules = (*parent.modules, *(m for m in modules if m.digest not in known_modules))
    all_deltas = (*parent.deltas, *(d for d in deltas if d.digest not in known_deltas))
    kept = tuple(m for m in all_modules if m.digest not in remove)
    return replace(
        parent,
        modules=kept,
        deltas=tuple(d for d in all_deltas if d.digest not in remove),
        router=(parent.router if router is None else router) if kept else "",
    )
