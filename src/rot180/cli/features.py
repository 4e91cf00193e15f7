"""The commands that list and compare the features of atlases."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.console import echo, page, report_errors
from rot180.cli.options import SORTS, AtlasFile

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas


def features(
    atlas: AtlasFile,
    layer: Annotated[str | None, typer.Option(help="List features of this layer only.")] = None,
    sort: Annotated[str, typer.Option(help=SORTS)] = "strongest",
    dead: Annotated[bool, typer.Option("--dead", help="Only features that never fire.")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="List the most correlated pairs of features instead.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="Maximal number of rows.")] = 20,
) -> None:
    """List the features of an atlas with their statistics, sorted."""
    with report_errors():
        from rot180.atlas.atlas import open_atlas
        from rot180.atlas.sorting import sort_order

        order = sort_order(sort)
        with open_atlas(atlas) as opened:
            names = list(opened) if layer is None else [opened[layer].name]
            page(160).print(
                _pairs(opened, names, most)
                if pairs
                else _features(opened, names, order, dead, most)
            )


def _features(
    atlas: "Atlas", names: list[str], order: tuple[str, str], dead: bool, most: int
) -> Any:
    from rich.table import Table

    from rot180.atlas.feature import is_number

    column, direction = order
    marks = ", ".join("?" * len(names))
    condition = "dead" if dead else f"NOT dead AND {column} IS NOT NULL"
    found = atlas.rows(
        "SELECT layer, channel, max, firing_positions, firing_images, class.name, "
        "class_selectivity, colour_r2, red, green, blue, brightness "
        "FROM feature LEFT JOIN class ON best_class = number "
        f"WHERE layer IN ({marks}) AND {condition} ORDER BY {column} {direction}, id LIMIT ?",
        *names,
        most,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", no_wrap=True)
    for name in ("feature", "max", "positions", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("best class", no_wrap=True)
    for name in ("selective", "colour R²"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("responds to")
    for row in found:
        numbers = (*row[1:5], *row[6:])
        atlas.check(all(one is None or is_number(one) for one in numbers), "feature")
        name, channel, largest, places, images, best, selective, r2, *colours = row
        table.add_row(
            name,
            atlas.label(name, channel),
            _number(largest),
            _percent(places),
            _percent(images),
            best or "",
            _number(selective),
            _number(r2),
            _responds(r2, colours),
        )
    return table


def _responds(explained: float | None, colours: list[float | None]) -> str:
    """Return the colours that a feature responds to, where colour explains some of it."""
    from rot180.atlas.describe import describe_colour

    if explained is None or explained < 0.1:
        return ""
    red, green, blue, brightness = colours
    channels = [one for one in (red, green, blue) if one is not None]
    return describe_colour(channels or [brightness or 0.0])


def _pairs(atlas: "Atlas", names: list[str], most: int) -> Any:
    from rich.table import Table

    from rot180.atlas.feature import is_number

    marks = ", ".join("?" * len(names))
    found = atlas.rows(
        "SELECT layer, channel, other, correlation FROM correlations "
        f"WHERE layer IN ({marks}) AND channel < other ORDER BY correlation DESC LIMIT ?",
        *names,
        most,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", no_wrap=True)
    for name in ("feature", "and", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one, two, value in found:
        atlas.check(is_number(value), "correlation")
        table.add_row(name, atlas.label(name, one), atlas.label(name, two), f"{value:.3f}")
    return table


def compare(
    first: AtlasFile,
    second: Annotated[Path, typer.Argument(help="Another, over the same data.")],
    layer: Annotated[
        str | None, typer.Option(help="Layer of the first atlas; by default all common ones.")
    ] = None,
    other: Annotated[
        str | None, typer.Option(help="Layer of the second atlas, if it has another name.")
    ] = None,
    most: Annotated[
        int, typer.Option(min=0, help="Maximal number of features listed for each layer.")
    ] = 10,
) -> None:
    """Find which features of two networks, or of two checkpoints, correspond."""
    with report_errors():
        from rich.table import Table

        from rot180.atlas.atlas import open_atlas
        from rot180.atlas.compare import compare as run

        with open_atlas(first) as one, open_atlas(second) as two:
            found = run(one, two, layer, other)
        for comparison in found:
            echo(str(comparison))
            for words, channels, whose in (
                ("vanished", comparison.vanished, one),
                ("appeared", comparison.appeared, two),
                ("died", comparison.died, one),
                ("revived", comparison.revived, two),
            ):
                if channels and most:
                    name = comparison.layer if whose is one else comparison.other_layer
                    shown = ", ".join(whose.label(name, channel) for channel in channels[:most])
                    echo(f"  {words}: {shown}{' …' if len(channels) > most else ''}")
            if not most:
                continue
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
            for name in ("feature", "goes with", "correlation"):
                table.add_column(name, justify="right", no_wrap=True)
            ranked = sorted(comparison.matches, key=lambda m: (m.other is None, -m.correlation))
            for match in [each for each in ranked if each.other is not None][:most]:
                mark = "" if match.mutual else " (not mutual)"
                assert match.other is not None
                partner = two.label(comparison.other_layer, match.other)
                table.add_row(
                    one.label(comparison.layer, match.channel),
                    f"{partner}{mark}",
                    f"{match.correlation:.3f}",
                )
            page().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"
