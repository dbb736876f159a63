"""Start a model from the weights of another one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from torch import Tensor, nn

from vse_gpo.errors import VSEError, did_you_mean

SHOWN = 6  # parts that a message describes


def start_from(model: nn.Module, weights: Mapping[str, Tensor], *, source: str, left_out: Sequence[str] = ()) -> str:
    """Load weights into a model; the parts that are left out stay as they are.

    Args:
        model: gets the weights.
        weights: see ``saved_weights``.
        source: of the weights, for messages.
        left_out: parts of the model or of the weights, such as ``text_encoder.backbone.embed``.

    Returns:
        What was loaded, in one line.

    Raises:
        VSEError: if weights are missing, extra or of another shape and not left out, or there is no such part to leave
            out; the model is as it was.
    """
    expected = model.state_dict()
    parts = {part for name in expected.keys() | weights.keys() for part in _parts_above(name)}
    if unknown := [part for part in left_out if part not in parts]:
        raise VSEError(f"init_skip={unknown[0]}: no part of the model or of init{did_you_mean(unknown[0], parts)}")
    wanted, found = _without(expected, left_out), _without(weights, left_out)
    differing = {
        name
        for name in wanted.keys() | found.keys()
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    }
    if differing:
        raise VSEError(_misfit(source, found, wanted, differing, left_out))
    if not found:
        raise VSEError(f"init={source}: init_skip={_listed(left_out)} leaves nothing of it; leave out less")
    model.load_state_dict(expected | found)
    remark = f", all but {', '.join(left_out)}" if left_out else ""
    return f"init={source}: starts from {len(found)} of the model's {len(expected)} weights{remark}"


def _without(weights: Mapping[str, Tensor], left_out: Sequence[str]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not set(left_out) & set(_parts_above(name))}


def _parts_above(name: str) -> Iterator[str]:
    """Every part of the model that a weight belongs to, the largest first and the weight itself last."""
    steps = name.split(".")
    return (".".join(steps[:length]) for length in range(1, len(steps) + 1))


def _misfit(
    source: str,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    differing: Set[str],
    left_out: Sequence[str],
) -> str:
    """The line about weights that do not fit, by the largest parts that hold no others."""
    fitting = {part for name in expected.keys() - differing for part in _parts_above(name)}
    parts: dict[str, list[str]] = {}
    for name in sorted(differing):
        part = next(part for part in _parts_above(name) if part not in fitting)
        parts.setdefault(part, []).append(name)
    shown = [f"{part} ({_difference(names, found, expected)})" for part, names in parts.items()]
    more = f", and {len(shown) - SHOWN} more parts" if len(shown) > SHOWN else ""
    return (
        f"init={source} does not fit the model: {', '.join(shown[:SHOWN])}{more}; set what its weights were trained "
        f"with, or leave these parts out: init_skip={_listed([*left_out, *parts])}"
    )


def _difference(names: Iterable[str], found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How the weights of a part differ from those of the model."""
    missing = [name for name in names if name not in found]
    extra = [name for name in names if name not in expected]
    shapes = [_shapes(name, found, expected) for name in names if name in found and name in expected]
    counts = [f"{len(missing)} missing"] * bool(missing) + [f"{len(extra)} extra"] * bool(extra)
    more = [f"{len(shapes) - 1} more of other shapes"] * (len(shapes) > 1)
    return ", ".join([*counts, *shapes[:1], *more])


def _shapes(name: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    def shape(weight: Tensor) -> str:
        return "×".join(map(str, weight.shape)) or "a number"

    return f"{name.rpartition('.')[2]} is {shape(found[name])}, expected {shape(expected[name])}"


def _listed(parts: Iterable[str]) -> str:
    return f"[{','.join(parts)}]"
