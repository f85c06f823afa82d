"""What the values in label files mean: stored ids, names and colours -> classes 0..K-1, or void."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segkd.datasets.base import IGNORE
from segkd.datasets.class_lists import ClassEntry
from segkd.datasets.files import MOST, UNKNOWN, LabelTable
from segkd.datasets.palettes import Colour, parse_colour, spread_palette
from segkd.errors import UserError, nearest

BACKGROUND = ("background", "_background_", "bg")  # what the class is called that is where no shape is
IGNORED = "__ignore__"  # what LabelMe calls void
VOID = "void"  # as the target of a label map, or as the background


class Legend(NamedTuple):
    """The classes of a data set, and how its label files say them.

    names, palette: of the classes, in order.
    ids, by_name, colours: stored id, name or colour -> class, or 255.
    background: class, or 255, of the pixels that no shape covers.
    mapped: the ids are those of a label map.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ids: dict[int, int]
    by_name: dict[str, int]
    colours: dict[Colour, int]
    background: int
    mapped: bool

    def table(self) -> LabelTable:
        """What reads masks of ids."""
        ids = ", ".join(map(str, sorted(self.ids)[:20])) + (", ..." if len(self.ids) > 20 else "")
        if self.mapped:
            return LabelTable(self.ids, f"the ids of its label_map ({ids})")
        voids = sorted(stored for stored, target in self.ids.items() if target == IGNORE)
        classes = sorted(self.ids.keys() - voids)
        span = f"0..{classes[-1]}" if classes == list(range(len(classes))) else ", ".join(map(str, classes))
        cure = "" if len(self.names) != 2 else " (a mask of 0 and 255 needs label_map={0: 0, 255: 1})"
        return LabelTable(self.ids, f"the class ids {span}, and {' or '.join(map(str, voids))} for void{cure}")

    def meaning(self, name: str) -> int | None:
        """The class, or 255, that a label's name stands for; None for one that is unknown."""
        return self.by_name.get(name)


def make_legend(
    entries: Sequence[ClassEntry],
    palette: Sequence[Sequence[int]] | None = None,
    ignore: Any = None,
    label_map: Mapping[Any, Any] | None = None,
    background: str | None = None,
    shapes: bool = False,
) -> Legend:
    """The legend of listed classes.

    Args:
        entries: the classes; one that ``ignore`` names is none.
        palette: a colour for each, in place of those listed; made up where there are none.
        ignore: what means void: a stored id, a name, a colour as "#RRGGBB", or a list of these; the id 255 does, too,
            unless a class or ``label_map`` has it.
        label_map: stored id or name -> class (its number or its name), or 255 or "void".
        background: the class of the pixels without a shape, or "void".
        shapes: the labels are shapes: a class "background" is put first if none is called so and it is not "void".

    Raises:
        UserError: what contradicts itself, or names no class.
    """
    ids_ignored, names_ignored, colours_ignored = _ignored(ignore)
    listed = {entry.name: k if entry.stored is None else entry.stored for k, entry in enumerate(entries)}
    void_names = {*names_ignored, IGNORED} & listed.keys()
    if missing := [name for name in names_ignored if name not in listed and not shapes]:
        raise UserError(f"ignore={missing[0]!r} is no listed class; {nearest(missing[0], listed)}")
    kept = [entry for entry in entries if entry.name not in void_names]
    if shapes and background is None and not any(entry.name.lower() in BACKGROUND for entry in kept):
        kept = [ClassEntry(BACKGROUND[0]), *kept]
    names = tuple(entry.name for entry in kept)
    if not 1 <= len(names) <= UNKNOWN:
        raise UserError(f"a folder data set needs 1 to {UNKNOWN} class_names, got {len(names)}")
    number = {name: k for k, name in enumerate(names)}
    stored = {listed[name]: k for name, k in number.items() if name in listed}
    ids = _ids(stored, {*ids_ignored, *(listed[name] for name in void_names)}, label_map, number)
    by_name = {**number, **dict.fromkeys({*names_ignored, *void_names, IGNORED}, IGNORE), **_named(label_map, number)}
    colours = {entry.colour: number[entry.name] for entry in kept if entry.colour is not None}
    if palette is not None:
        shades = _checked(palette, len(names))
        colours = {shade: k for k, shade in enumerate(shades)} if len(set(shades)) == len(shades) else {}
    else:
        made = spread_palette(len(names))
        shades = tuple(entry.colour or made[k] for k, entry in enumerate(kept))
    void_colours = {entry.colour: IGNORE for entry in entries if entry.name in void_names and entry.colour is not None}
    colours = {**colours, **void_colours, **dict.fromkeys(colours_ignored, IGNORE)}
    return Legend(names, shades, ids, by_name, colours, _background(background, number), _has_ids(label_map))


def _ignored(given: Any) -> tuple[list[int], list[str], list[Colour]]:
    """The ids, the names and the colours (``#RRGGBB``) of ``ignore``."""
    values = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    ids, names, colours = [], [], []
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 <= value < MOST:
                raise UserError(f"ignore must be a stored id of 0..{MOST - 1}, a name or a colour, got {value}")
            ids.append(value)
        elif isinstance(value, str) and not value.startswith("#"):
            names.append(value)
        else:
            colours.append(parse_colour(value, "ignore"))
    return ids, names, colours


def _ids(
    stored: Mapping[int, int], void: set[int], label_map: Mapping[Any, Any] | None, number: Mapping[str, int]
) -> dict[int, int]:
    """Stored id -> class or 255."""
    mapped = {key: value for key, value in _targets(label_map, number).items() if isinstance(key, int)}
    if mapped:
        for one in void:
            if mapped.get(one, IGNORE) != IGNORE:
                raise UserError(
                    f"label_map {one} -> {mapped[one]}, and ignore={one}: a stored id is a class or void, not both"
                )
        return {IGNORE: IGNORE, **dict.fromkeys(void, IGNORE), **mapped}
    return {IGNORE: IGNORE, **stored, **dict.fromkeys(void, IGNORE)}


def _targets(label_map: Mapping[Any, Any] | None, number: Mapping[str, int]) -> dict[int | str, int]:
    """A label map with integers where they are written as text, and each target as the number of a class, or 255."""
    found: dict[int | str, int] = {}
    for key, value in (label_map or {}).items():
        stored = int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdecimal()) else key
        target = IGNORE if value == VOID and VOID not in number else number.get(value, value)
        if isinstance(target, str) and target.isdecimal():
            target = int(target)
        if not isinstance(stored, int | str) or not isinstance(target, int):
            raise UserError(
                f"label_map must map integers or names to classes, got {key!r} -> {value!r}"
                + (f"; {nearest(value, number)}" if isinstance(value, str) else "")
            )
        if not (0 <= target < len(number) or target == IGNORE):
            raise UserError(
                f"label_map {key} -> {value}: there are classes 0..{len(number) - 1}, and {IGNORE} to ignore"
            )
        found[stored] = target
    return found


def _named(label_map: Mapping[Any, Any] | None, number: Mapping[str, int]) -> dict[str, int]:
    return {key: target for key, target in _targets(label_map, number).items() if isinstance(key, str)}


def _has_ids(label_map: Mapping[Any, Any] | None) -> bool:
    return any(str(key).isdecimal() for key in label_map or {})


def _background(given: str | None, number: Mapping[str, int]) -> int:
    if given == VOID and VOID not in number:
        return IGNORE
    if given is not None:
        if given not in number:
            raise UserError(f"background={given!r} is neither a class nor {VOID!r}; {nearest(given, number)}")
        return number[given]
    return next((k for name, k in number.items() if name.lower() in BACKGROUND), IGNORE)


def _checked(palette: Sequence[Sequence[int]], count: int) -> tuple[Colour, ...]:
    if len(palette) != count:
        raise UserError(f"palette needs one (R, G, B) of 0..255 for each of the {count} classes, got {len(palette)}")
    return tuple(parse_colour(list(colour), "palette") for colour in palette)
