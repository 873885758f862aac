"""Series: arrays of numbers, as make-series makes them. What is no array gives null.

An element that is no number counts as missing: element by element it gives null, in a sum it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from trailhawk.kql.functions.python import Flag, Float, Json, Text, Value, Whole, python
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_T = KqlType
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How JSON holds what is no finite number."""


def _number(value: object) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def _items(value: object) -> list[object] | None:
    return value if isinstance(value, list) else None


def _array(value: object) -> Numbers | None:
    """The numbers of an array, NaN for what is none; None of what is no array or holds nothing."""
    import numpy as np

    items = _items(value)
    if not items:
        return None
    numbers = [_number(item) for item in items]
    return np.array([math.nan if number is None else number for number in numbers], np.float64)


def _complete(value: object) -> Numbers | None:
    """The numbers of an array that holds nothing else."""
    import numpy as np

    array = _array(value)
    return array if array is not None and bool(np.isfinite(array).all()) else None


def _listed(array: Numbers) -> list[float | None]:
    """As elements: null for NaN."""
    return [None if math.isnan(item) else item for item in array.tolist()]


# --- element by element ------------------------------------------------------------------------------------


def _each(series: object, body: Callable[[int | float], object]) -> list[object] | None:
    items = _items(series)
    if items is None:
        return None
    return [None if (number := _number(item)) is None else _safe(body, number) for item in items]


def _safe(body: Callable[..., object], *numbers: int | float) -> object:
    """The body's value; NaN outside its domain, infinity beyond its range."""
    try:
        return body(*numbers)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def _pairs(left: object, right: object) -> Iterable[tuple[object, object]] | None:
    """Elements at the same place; a single number stands beside each element of the other side."""
    a, b = _items(left), _items(right)
    if a is None and b is None:
        return None
    if a is None:
        return [(left, item) for item in b or []]
    if b is None:
        return [(item, right) for item in a]
    return zip_longest(a, b)


def _both(
    left: object, right: object, body: Callable[[int | float, int | float], object]
) -> list[object] | None:
    pairs = _pairs(left, right)
    if pairs is None:
        return None
    found: list[object] = []
    for one, other in pairs:
        a, b = _number(one), _number(other)
        found.append(None if a is None or b is None else _safe(body, a, b))
    return found


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except ZeroDivisionError:
        return math.inf


def _logarithm(a: float) -> float:
    return -math.inf if a == 0 else math.log(a)


@python()
def series_add(left: Value, right: Value) -> Json | None:
    """The sums of the elements at the same place; null where one is missing.

    >>> series_add(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [5,4,5]
    >>> series_add(dynamic([1, null]), dynamic([4, 2, 1]))
    [5,null,null]
    """
    return _both(left, right, lambda a, b: a + b)


@python()
def series_subtract(left: Value, right: Value) -> Json | None:
    """The differences of the elements at the same place; null where one is missing.

    >>> series_subtract(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [-3,0,3]
    """
    return _both(left, right, lambda a, b: a - b)


@python()
def series_multiply(left: Value, right: Value) -> Json | None:
    """The products of the elements at the same place; null where one is missing.

    >>> series_multiply(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [4,4,4]
    >>> series_multiply(10, dynamic([1, 2]))
    [10,20]
    """
    return _both(left, right, lambda a, b: a * b)


@python()
def series_divide(left: Value, right: Value) -> Json | None:
    """The quotients of the elements at the same place; null where one is missing.

    >>> series_divide(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [0.25,1.0,4.0]
    """
    return _both(left, right, _divide)


@python()
def series_pow(left: Value, right: Value) -> Json | None:
    """The first series' elements raised to the power of the second's; null where one is missing.

    >>> series_pow(dynamic([1, 2, 3, 4]), dynamic([1, 2, 3, 0.5]))
    [1.0,4.0,27.0,2.0]
    """
    return _both(left, right, _power)


@python()
def series_equals(left: Value, right: Value) -> Json | None:
    """Whether the elements at the same place are equal.

    >>> series_equals(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [false,true,false]
    """
    return _both(left, right, lambda a, b: a == b)


@python()
def series_not_equals(left: Value, right: Value) -> Json | None:
    """Whether the elements at the same place differ.

    >>> series_not_equals(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [true,false,true]
    """
    return _both(left, right, lambda a, b: a != b)


@python()
def series_less(left: Value, right: Value) -> Json | None:
    """Whether each element is less than the one at the same place.

    >>> series_less(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [true,false,false]
    """
    return _both(left, right, lambda a, b: a < b)


@python()
def series_less_equals(left: Value, right: Value) -> Json | None:
    """Whether each element is less than the one at the same place, or equal.

    >>> series_less_equals(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [true,true,false]
    """
    return _both(left, right, lambda a, b: a <= b)


@python()
def series_greater(left: Value, right: Value) -> Json | None:
    """Whether each element is greater than the one at the same place.

    >>> series_greater(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [false,false,true]
    """
    return _both(left, right, lambda a, b: a > b)


@python()
def series_greater_equals(left: Value, right: Value) -> Json | None:
    """Whether each element is greater than the one at the same place, or equal.

    >>> series_greater_equals(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    [false,true,true]
    """
    return _both(left, right, lambda a, b: a >= b)


@python()
def series_abs(series: Json) -> Json | None:
    """The sizes of the elements.

    >>> series_abs(dynamic([-6.5, 0, "a"]))
    [6.5,0,null]
    """
    return _each(series, abs)


@python()
def series_sign(series: Json) -> Json | None:
    """-1, 0 or 1 for each element.

    >>> series_sign(dynamic([-6, 0, 8]))
    [-1,0,1]
    """
    return _each(series, lambda a: a if math.isnan(a) else (a > 0) - (a < 0))


@python()
def series_exp(series: Json) -> Json | None:
    """e raised to each element.

    >>> series_exp(dynamic([0, null]))
    [1.0,null]
    """
    return _each(series, math.exp)


@python()
def series_log(series: Json) -> Json | None:
    """The natural logarithm of each element.

    >>> series_log(dynamic([1, 0, -1]))
    [0.0,"-Infinity","NaN"]
    """
    return _each(series, _logarithm)


@python()
def series_floor(series: Json) -> Json | None:
    """The elements rounded down.

    >>> series_floor(dynamic([-1.5, 1, 2.5]))
    [-2.0,1.0,2.0]
    """
    return _each(series, lambda a: a if math.isinf(a) else float(math.floor(a)))


@python()
def series_ceiling(series: Json) -> Json | None:
    """The elements rounded up.

    >>> series_ceiling(dynamic([-1.5, 1, 2.5]))
    [-1.0,1.0,3.0]
    """
    return _each(series, lambda a: a if math.isinf(a) else float(math.ceil(a)))


@python()
def series_sin(series: Json) -> Json | None:
    """The sine of each element, in radians.

    >>> series_sin(dynamic([0]))
    [0.0]
    """
    return _each(series, math.sin)


@python()
def series_cos(series: Json) -> Json | None:
    """The cosine of each element, in radians.

    >>> series_cos(dynamic([0]))
    [1.0]
    """
    return _each(series, math.cos)


@python()
def series_tan(series: Json) -> Json | None:
    """The tangent of each element, in radians.

    >>> series_tan(dynamic([0]))
    [0.0]
    """
    return _each(series, math.tan)


@python()
def series_asin(series: Json) -> Json | None:
    """The angle in radians of each element's sine.

    >>> series_asin(dynamic([0, 2]))
    [0.0,"NaN"]
    """
    return _each(series, math.asin)


@python()
def series_acos(series: Json) -> Json | None:
    """The angle in radians of each element's cosine.

    >>> series_acos(dynamic([1]))
    [0.0]
    """
    return _each(series, math.acos)


@python()
def series_atan(series: Json) -> Json | None:
    """The angle in radians of each element's tangent.

    >>> series_atan(dynamic([0]))
    [0.0]
    """
    return _each(series, math.atan)


# --- filling gaps ------------------------------------------------------------------------------------------


def _is_gap(item: object, missing: object) -> bool:
    """Is the element the placeholder of what is missing? 0 and 0.0 are the same, 0 and false are not."""
    if missing is None or item is None:
        return item is missing
    return item == missing and isinstance(item, bool) == isinstance(missing, bool)


@python(name_after="")
def series_fill_const(series: Json, constant: Value, missing: Value | None = None) -> Json | None:
    """The series with a constant where an element is missing (null, or the placeholder given).

    >>> series_fill_const(dynamic([111, null, 36]), 0)
    [111,0,36]
    >>> series_fill_const(dynamic([1, -1]), 7, -1)
    [1,7]
    """
    items = _items(series)
    return None if items is None else [constant if _is_gap(item, missing) else item for item in items]


def _filled(items: Iterable[object], missing: object) -> list[object]:
    found: list[object] = []
    last = missing
    for item in items:
        last = last if _is_gap(item, missing) else item
        found.append(last)
    return found


@python(name_after="")
def series_fill_forward(series: Json, missing: Value | None = None) -> Json | None:
    """The series with the value before it where an element is missing (null, or the placeholder given).

    >>> series_fill_forward(dynamic([null, 36, null, 16]))
    [null,36,36,16]
    """
    items = _items(series)
    return None if items is None else _filled(items, missing)


@python(name_after="")
def series_fill_backward(series: Json, missing: Value | None = None) -> Json | None:
    """The series with the value after it where an element is missing (null, or the placeholder given).

    >>> series_fill_backward(dynamic([null, 36, null, 16, null]))
    [36,36,16,16,null]
    """
    items = _items(series)
    return None if items is None else _filled(reversed(items), missing)[::-1]


@python(name_after="")
def series_fill_linear(
    series: Json, missing: Value | None = None, edges: Flag | None = None, constant: Value | None = None
) -> Json | None:
    """The series with gaps on the line between the values around them.

    `missing` is the placeholder of a gap (null if not given). Gaps at the edges get the nearest value, unless
    `edges` is false. A series of gaps alone is filled with the constant (0 if not given). Whole numbers stay
    whole.

    >>> series_fill_linear(dynamic([null, 10.0, null, 11.0, null]))
    [10.0,10.0,10.5,11.0,11.0]
    >>> series_fill_linear(dynamic([null, 36, 41, null, null, 16]), real(null), false)
    [null,36,41,32,24,16]
    >>> series_fill_linear(dynamic([null, null]), real(null), true, 3.5)
    [3.5,3.5]
    """
    items = _items(series)
    if items is None:
        return None
    gaps = [_is_gap(item, missing) for item in items]
    known = [
        (place, number)
        for place, item in enumerate(items)
        if not gaps[place] and (number := _number(item)) is not None
    ]
    if not known:
        return [
            0.0 if constant is None else constant if gap else item
            for item, gap in zip(items, gaps, strict=True)
        ]
    whole = all(isinstance(number, int) for _, number in known)
    found = list(items)
    for (left, a), (right, b) in pairwise(known):
        for place in range(left + 1, right):
            if gaps[place]:
                between = a + (b - a) * (place - left) / (right - left)
                found[place] = int(between) if whole else between
    if edges is not False:
        first, last = known[0], known[-1]
        for place, gap in enumerate(gaps):
            if gap and place < first[0]:
                found[place] = first[1]
            elif gap and place > last[0]:
                found[place] = last[1]
    return found


# --- one number of a series --------------------------------------------------------------------------------


def _numbers(series: object) -> list[int | float] | None:
    """The elements that are numbers."""
    items = _items(series)
    return None if items is None else [number for item in items if (number := _number(item)) is not None]


@python()
def series_sum(series: Json) -> Float | None:
    """The sum of the numbers.

    >>> series_sum(dynamic([1, 2, null, 4]))
    7.0
    """
    numbers = _numbers(series)
    return None if numbers is None else float(sum(numbers))


@python()
def series_product(series: Json) -> Float | None:
    """The product of the numbers.

    >>> series_product(dynamic([1, 2, 4]))
    8.0
    """
    numbers = _numbers(series)
    return None if numbers is None else float(math.prod(map(float, numbers)))


@python()
def series_dot_product(left: Value, right: Value) -> Float | None:
    """The sum of the products of elements at the same place; a single number stands beside each element.

    >>> series_dot_product(dynamic([1, 2, 4]), dynamic([4, 2, 1]))
    12.0
    >>> series_dot_product(dynamic([1, 2, 4]), 2)
    14.0
    """
    products = _both(left, right, lambda a, b: a * b)
    if products is None:
        return None
    return float(sum(item for item in products if isinstance(item, int | float)))


@python()
def series_magnitude(series: Json) -> Float | None:
    """The length of the vector: the root of the sum of squares.

    >>> series_magnitude(dynamic([3, 4]))
    5.0
    """
    numbers = _numbers(series)
    return None if numbers is None else math.hypot(*numbers)


@python()
def series_cosine_similarity(
    left: Json, right: Json, left_magnitude: Float | None = None, right_magnitude: Float | None = None
) -> Float | None:
    """The cosine of the angle between two vectors; their magnitudes may be given.

    >>> round(series_cosine_similarity(dynamic([0.1, 0.2, 0.1, 0.2]), dynamic([1, 2, 3, 4])), 6)
    0.92376
    """
    a, b = _numbers(left), _numbers(right)
    if not a or not b:
        return None
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    lengths = [
        math.hypot(*side) if given is None else given
        for side, given in ((a, left_magnitude), (b, right_magnitude))
    ]
    return _divide(sum(float(x) * y for x, y in zip(a, b, strict=True)), lengths[0] * lengths[1])


@python()
def series_pearson_correlation(left: Json, right: Json) -> Float | None:
    """Pearson's correlation coefficient; null where an element is missing or the lengths differ.

    >>> series_pearson_correlation(dynamic([1, 2, 3]), dynamic([2, 4, 6]))
    1.0
    >>> series_pearson_correlation(dynamic([1, 2, 3]), dynamic([2, 4]))
    null
    """
    import numpy as np

    a, b = _complete(left), _complete(right)
    if a is None or b is None or len(a) != len(b):
        return None
    a, b = a - a.mean(), b - b.mean()
    return _divide(float(np.dot(a, b)), math.sqrt(float(np.dot(a, a)) * float(np.dot(b, b))))


def _stats(series: object, *, ignore: bool | None) -> dict[str, object] | None:
    import numpy as np

    given = _array(series)
    if given is None:
        return None
    finite = np.isfinite(given)
    places, array = np.flatnonzero(finite), given[finite]
    if not len(array) or not (ignore or finite.all()):
        return None
    low, high = int(array.argmin()), int(array.argmax())
    variance = float(array.var(ddof=1)) if len(array) > 1 else 0.0
    return {
        "min": float(array[low]),
        "min_idx": int(places[low]),
        "max": float(array[high]),
        "max_idx": int(places[high]),
        "avg": float(array.mean()),
        "stdev": math.sqrt(variance),
        "variance": variance,
        "sum": float(array.sum()),
        "len": len(array),
    }


_STATS = (
    ("min", _T.REAL),
    ("min_idx", _T.LONG),
    ("max", _T.REAL),
    ("max_idx", _T.LONG),
    ("avg", _T.REAL),
    ("stdev", _T.REAL),
    ("variance", _T.REAL),
)


@python(columns=_STATS)
def series_stats(series: Json, ignore_nonfinite: Flag | None = None) -> Json | None:
    """Columns min, min_idx, max, max_idx, avg, stdev and variance; null if an element is not finite.

    >>> series_stats(dynamic([2, 4, 9]))[4]
    5.0
    """
    found = _stats(series, ignore=ignore_nonfinite)
    return None if found is None else [found[name] for name, _ in _STATS]


@python()
def series_stats_dynamic(series: Json, ignore_nonfinite: Flag | None = None) -> Json | None:
    """A bag of min, min_idx, max, max_idx, avg, stdev, variance, sum and len.

    >>> series_stats_dynamic(dynamic([2, null, 9]), true).max_idx
    2
    """
    return _stats(series, ignore=ignore_nonfinite)


# --- filters -----------------------------------------------------------------------------------------------


@python(name_after="")
def series_fir(
    series: Json,
    weights: Json,
    normalize: Flag | None = None,
    center: Flag | None = None,
) -> Json | None:
    """A finite impulse response filter: each element is a weighted sum of itself and those before it.

    The weights are divided by their sum unless one is negative (or `normalize` says otherwise); with `center`
    the elements after it count as well as those before.

    >>> series_fir(dynamic([3, 6, 9]), dynamic([1, 1, 1]))
    [1.0,3.0,6.0]
    >>> series_fir(dynamic([3, 6, 9]), dynamic([1, 1, 1]), true, true)
    [3.0,6.0,5.0]
    >>> series_fir(dynamic([1, 4]), dynamic([1, -1]))
    [1.0,3.0]
    """
    import numpy as np

    array, taps = _array(series), _complete(weights)
    if array is None or taps is None:
        return None
    negative = bool((taps < 0).any())
    if normalize is None:
        normalize = not negative
    if normalize:
        if negative or not taps.sum():
            return None
        taps = taps / taps.sum()
    shift = (len(taps) - 1) // 2 if center else 0
    return _listed(np.convolve(array, taps)[shift : shift + len(array)])


@python(name_after="")
def series_iir(series: Json, numerators: Json, denominators: Json) -> Json | None:
    """An infinite impulse response filter, by the numerators and denominators of its transfer function.

    >>> series_iir(dynamic([1, 2, 3, 4]), dynamic([1]), dynamic([1, -1]))
    [1.0,3.0,6.0,10.0]
    """
    array, b, a = _array(series), _complete(numerators), _complete(denominators)
    if array is None or b is None or a is None or a[0] == 0:
        return None
    found: list[float] = []
    for place in range(len(array)):
        forward = sum(float(w * array[place - i]) for i, w in enumerate(b) if i <= place)
        back = sum(float(w) * found[place - i] for i, w in enumerate(a) if 0 < i <= place)
        found.append((forward - back) / float(a[0]))
    return [None if math.isnan(item) else item for item in found]


_COMPLEX = (("real", _T.DYNAMIC), ("imag", _T.DYNAMIC))


def _transformed(real: object, imaginary: object, *, inverse: bool) -> list[object] | None:
    import numpy as np

    a, b = _complete(real), None if imaginary is None else _complete(imaginary)
    if a is None or (imaginary is not None and (b is None or len(a) != len(b))):
        return None
    given = a if b is None else a + 1j * b
    found = np.fft.ifft(given) if inverse else np.fft.fft(given)
    return [found.real.tolist(), found.imag.tolist()]


@python(columns=_COMPLEX)
def series_fft(real: Json, imaginary: Json | None = None) -> Json | None:
    """Columns real and imag: the Fourier transform of a series of complex numbers.

    >>> series_fft(dynamic([1, 1, 1, 1]))[0]
    [4.0,0.0,0.0,0.0]
    """
    return _transformed(real, imaginary, inverse=False)


@python(columns=_COMPLEX)
def series_ifft(real: Json, imaginary: Json | None = None) -> Json | None:
    """Columns real and imag: the inverse Fourier transform.

    >>> series_ifft(dynamic([4, 0, 0, 0]))[0]
    [1.0,1.0,1.0,1.0]
    """
    return _transformed(real, imaginary, inverse=True)


# --- regression --------------------------------------------------------------------------------------------

_LINE = ("rsquare", "slope", "variance", "rvariance", "interception", "line_fit")


def _variance(array: Numbers) -> float:
    """Of the sample."""
    return float(array.var(ddof=1)) if len(array) > 1 else 0.0


def _explained(variance: float, rest: float) -> float:
    return 1.0 if rest == 0 or variance == 0 else max(0.0, 1 - rest / variance)


def _line(array: Numbers) -> dict[str, object]:
    """The straight line nearest to the elements, whose places are 1, 2, 3, ..."""
    import numpy as np

    places = np.arange(1, len(array) + 1, dtype=np.float64)
    slope, interception = _slope(places, array)
    fitted = slope * places + interception
    variance, rest = _variance(array), _variance(array - fitted)
    return {
        "rsquare": _explained(variance, rest),
        "slope": slope,
        "variance": variance,
        "rvariance": rest,
        "interception": interception,
        "line_fit": fitted.tolist(),
    }


def _slope(places: Numbers, array: Numbers) -> tuple[float, float]:
    """Slope of the regression line, and its height at place 0."""
    away = places - places.mean()
    spread = float((away * away).sum())
    slope = float((away * array).sum()) / spread if spread else 0.0
    return slope, float(array.mean()) - slope * float(places.mean())


@python(columns=tuple((name, _T.DYNAMIC if name == "line_fit" else _T.REAL) for name in _LINE))
def series_fit_line(series: Json) -> Json | None:
    """Columns rsquare, slope, variance, rvariance, interception and line_fit of the regression line.

    >>> series_fit_line(dynamic([2, 4, 6]))[5]
    [2.0,4.0,6.0]
    """
    array = _complete(series)
    if array is None:
        return None
    found = _line(array)
    return [found[name] for name in _LINE]


@python()
def series_fit_line_dynamic(series: Json) -> Json | None:
    """A bag of rsquare, slope, variance, rvariance, interception and line_fit of the regression line.

    >>> series_fit_line_dynamic(dynamic([2, 4, 6])).slope
    2.0
    """
    array = _complete(series)
    return None if array is None else _line(array)


_SIDE = ("rsquare", "slope", "interception", "variance", "rvariance")


def _two_lines(series: object) -> dict[str, object] | None:
    """The two lines, left and right of the split that leaves least unexplained."""
    import numpy as np

    array = _complete(series)
    if array is None or len(array) < 2:
        return None
    splits = range(2, len(array) - 1) if len(array) > 3 else range(1, len(array))
    rests = _rests(array) + _rests(array[::-1])[::-1]
    best = min(splits, key=lambda split: (rests[split], split))
    left, right = _line(array[:best]), _line(array[best:])
    fitted = np.array([*_fitted(left), *_fitted(right)])
    variance, rest = _variance(array), _variance(array - fitted)
    return {
        "rsquare": _explained(variance, rest),
        "split_idx": best,
        "variance": variance,
        "rvariance": rest,
        "line_fit": fitted.tolist(),
        "right": {name: right[name] for name in _SIDE},
        "left": {name: left[name] for name in _SIDE},
    }


def _fitted(line: dict[str, object]) -> list[float]:
    fit = line["line_fit"]
    return fit if isinstance(fit, list) else []


def _rests(array: Numbers) -> Numbers:
    """Sums of squares that a line through the first 0, 1, ... n elements leaves unexplained."""
    import numpy as np

    array = array - array.mean()
    x = np.arange(1, len(array) + 1, dtype=np.float64)
    count = x
    sxx = np.cumsum(x * x) - np.cumsum(x) ** 2 / count
    sxy = np.cumsum(x * array) - np.cumsum(x) * np.cumsum(array) / count
    syy = np.cumsum(array * array) - np.cumsum(array) ** 2 / count
    slopes = np.divide(sxy, sxx, out=np.zeros_like(sxy), where=sxx > 0)
    return np.concatenate([[0.0], np.maximum(syy - slopes * sxy, 0.0)])


_TWO_LINES = (
    ("rsquare", _T.REAL),
    ("split_idx", _T.LONG),
    ("variance", _T.REAL),
    ("rvariance", _T.REAL),
    ("line_fit", _T.DYNAMIC),
    *((f"right_{name}", _T.REAL) for name in _SIDE),
    *((f"left_{name}", _T.REAL) for name in _SIDE),
)


@python(columns=_TWO_LINES)
def series_fit_2lines(series: Json) -> Json | None:
    """Columns of two regression lines, left and right of the place where splitting explains most.

    These are rsquare, split_idx, variance, rvariance, line_fit and, with right_ and left_ before them,
    rsquare, slope, interception, variance and rvariance.

    >>> series_fit_2lines(dynamic([1, 2, 3, 9, 8, 7]))[1]
    3
    """
    found = _two_lines(series)
    if found is None:
        return None
    sides = {side: found[side] for side in ("right", "left")}
    flat = {
        f"{side}_{name}": value
        for side, bag in sides.items()
        if isinstance(bag, dict)
        for name, value in bag.items()
    }
    return [{**found, **flat}[name] for name, _ in _TWO_LINES]


@python()
def series_fit_2lines_dynamic(series: Json) -> Json | None:
    """A bag of two regression lines, left and right of the place where splitting explains most.

    >>> series_fit_2lines_dynamic(dynamic([1, 2, 3, 9, 8, 7])).left.slope
    1.0
    """
    return _two_lines(series)


_POLY = (
    ("rsquare", _T.REAL),
    ("coefficients", _T.DYNAMIC),
    ("variance", _T.REAL),
    ("rvariance", _T.REAL),
    ("poly_fit", _T.DYNAMIC),
)


@python(columns=_POLY)
def series_fit_poly(y: Json, x: Json | None = None, degree: Whole | None = None) -> Json | None:
    """Columns rsquare, coefficients (highest power first), variance, rvariance and poly_fit.

    The polynomial of a degree (1 if not given) nearest to y over x (1, 2, 3, ... if not given).

    >>> array_length(series_fit_poly(dynamic([1, 4, 9, 16]), dynamic([1, 2, 3, 4]), 2)[1])
    3
    """
    import numpy as np

    array = _complete(y)
    if array is None:
        return None
    places = np.arange(1, len(array) + 1, dtype=np.float64) if x is None else _complete(x)
    power = 1 if degree is None else degree
    if places is None or len(places) != len(array) or not 0 <= power < len(array):
        return None
    powers = np.vander(places, power + 1)
    lengths = np.linalg.norm(powers, axis=0)
    # The solver writes on standard output of what is not finite.
    if not np.isfinite([*lengths, np.linalg.norm(array)]).all():
        return None
    lengths[lengths == 0] = 1.0
    precision = len(array) * float(np.finfo(np.float64).eps)
    coefficients = np.linalg.lstsq(powers / lengths, array, rcond=precision)[0] / lengths
    fitted = np.polyval(coefficients, places)
    variance, rest = _variance(array), _variance(array - fitted)
    return [_explained(variance, rest), coefficients.tolist(), variance, rest, fitted.tolist()]


# --- seasons, trends and outliers --------------------------------------------------------------------------

_MIN_PERIOD = 4
"""The shortest period that counts as one."""
_FENCE = 1.5


def _correlations(array: Numbers) -> Numbers:
    """How like the series is to itself moved by 0, 1, ... places, between -1 and 1.

    Outliers are first drawn in to Tukey's fences. A shift by k leaves n - k pairs of n: the sum is
    weighed by the root of n / (n - k), which gives the score in the reference's example.
    """
    import numpy as np

    low, high = np.percentile(array, [25, 75])
    fence = _FENCE * (high - low)
    clipped = np.clip(array, low - fence, high + fence) if fence > 0 else array
    around = clipped - clipped.mean()
    size = len(around)
    power = np.abs(np.fft.rfft(around, 2 * size)) ** 2
    sums = np.fft.irfft(power, 2 * size)[:size]
    if sums[0] <= 1e-12 * max(1.0, float((array * array).sum())):
        return np.zeros(size)
    scores: Numbers = sums / sums[0] * np.sqrt(size / (size - np.arange(size)))
    return scores


def _on_hill(correlations: Numbers, period: int) -> bool:
    """Is the period a peak of the correlations above zero, within a fifth of its length?"""
    near = max(1, period // 5)
    hill = correlations[period - near : period + near + 1]
    return bool(correlations[period] > 0 and correlations[period] >= hill.max())


def _frequencies(array: Numbers) -> list[int]:
    """The peaks of the periodogram that chance would hardly give: how often each comes in the series."""
    import numpy as np

    places = np.arange(len(array), dtype=np.float64)
    slope, height = _slope(places, array)
    power = np.abs(np.fft.rfft(array - slope * places - height)) ** 2
    power = power[1:]
    mean = float(power.mean()) if len(power) else 0.0
    if mean <= 1e-12 * max(1.0, float((array * array).sum())):
        return []
    least = mean * math.log(len(power) / 0.05)
    padded = np.concatenate([[0.0], power, [0.0]])
    return [
        place
        for place in range(1, len(power) + 1)
        if padded[place] > least and padded[place] >= max(padded[place - 1], padded[place + 1])
    ]


def _periods(array: Numbers, least: float, most: float) -> list[tuple[int, float]]:
    """Periods and their scores, best first: peaks of the periodogram that are peaks of the correlation too.

    The periodogram says roughly how long a period is, the correlation exactly (Vlachos et al., 2005).
    """
    size = len(array)
    if size < 2 * _MIN_PERIOD:
        return []
    correlations = _correlations(array)
    low, high = math.ceil(min(max(_MIN_PERIOD, least), size)), math.floor(max(0, min((size - 1) // 2, most)))
    found: dict[int, float] = {}
    for frequency in _frequencies(array):
        first = max(low, math.floor(size / (frequency + 1)))
        last = min(high, math.ceil(size / (frequency - 1)) if frequency > 1 else high)
        hill = range(first, last + 1)
        if hill:
            period = max(hill, key=lambda place: float(correlations[place]))
            if _on_hill(correlations, period):
                found[period] = min(1.0, float(correlations[period]))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


_PERIODS = (("periods", _T.DYNAMIC), ("scores", _T.DYNAMIC))


@python(columns=_PERIODS)
def series_periods_detect(
    series: Json, least: Float | None, most: Float | None, count: Whole | None
) -> Json | None:
    """Columns periods and scores: the periods of the series from `least` to `most` elements, best first.

    A period has 4 elements or more and comes more than twice; what is not found is 0.

    >>> series_periods_detect(dynamic([8, 9, 7, 5, 8, 9, 7, 5, 8, 9, 7, 5, 8, 9, 7, 5]), 0, 9, 2)[0]
    [4.0,0.0]
    """
    array = _complete(series)
    if array is None or least is None or most is None or count is None or count < 0:
        return None
    if math.isnan(least) or math.isnan(most):
        return None
    found = _periods(array, least, most)[: min(count, len(array))]
    rest = [0.0] * (min(count, len(array)) - len(found))
    return [[*(float(period) for period, _ in found), *rest], [*(score for _, score in found), *rest]]


@python(columns=_PERIODS)
def series_periods_validate(
    series: Json,
    period1: Float,
    period2: Float | None = None,
    period3: Float | None = None,
    period4: Float | None = None,
    period5: Float | None = None,
    period6: Float | None = None,
    period7: Float | None = None,
    period8: Float | None = None,
    period9: Float | None = None,
    period10: Float | None = None,
    period11: Float | None = None,
    period12: Float | None = None,
    period13: Float | None = None,
    period14: Float | None = None,
    period15: Float | None = None,
    period16: Float | None = None,
) -> Json | None:
    """Columns periods and scores: how well each of these periods fits the series, from 0 to 1.

    A period below 4 elements, or above half of the series, has score 0.

    >>> series_periods_validate(dynamic([8, 12, 14, 12, 10, 10, 12, 14, 12, 10, 10, 12, 14, 12, 10]), 5, 4)[0]
    [5.0,4.0]
    """
    array = _complete(series)
    if array is None:
        return None
    first = (period1, period2, period3, period4, period5, period6, period7, period8)
    second = (period9, period10, period11, period12, period13, period14, period15, period16)
    periods = [period for period in (*first, *second) if period is not None]
    correlations = _correlations(array)
    return [periods, [_score(correlations, period) for period in periods]]


def _score(correlations: Numbers, period: float) -> float:
    if not _MIN_PERIOD <= period <= len(correlations) / 2:
        return 0.0
    place = round(period)
    return min(1.0, float(correlations[place])) if _on_hill(correlations, place) else 0.0


def _season(array: Numbers, period: int) -> Numbers:
    """The median of the elements in the same phase, for each phase; missing ones are left out."""
    import numpy as np

    phases = [array[phase::period] for phase in range(period)]
    known = [phase[~np.isnan(phase)] for phase in phases]
    return np.array([float(np.median(phase)) if len(phase) else 0.0 for phase in known])


def _best_period(array: Numbers, threshold: float) -> int:
    """The period of highest score, 0 if it is below the threshold."""
    found = _periods(_without_gaps(array), _MIN_PERIOD, len(array))
    return found[0][0] if found and found[0][1] >= threshold else 0


def _without_gaps(array: Numbers) -> Numbers:
    import numpy as np

    known = np.isfinite(array)
    if known.all() or not known.any():
        return array if known.any() else np.zeros(len(array))
    places = np.arange(len(array))
    return np.interp(places, places[known], array[known])


def _repeated(season: Numbers, size: int) -> Numbers:
    import numpy as np

    return np.resize(season, size)


@python()
def series_seasonal(series: Json, period: Whole | None = None) -> Json | None:
    """The seasonal part: the median of the elements in the same phase of the period; zeros without one.

    The period is found (with a score of 0.7 or more) unless it is given.

    >>> series_seasonal(dynamic([1, 3, 5, 2, 4, 6, 1, 3, 5, 2, 4, 6]), 3)
    [1.5,3.5,5.5,1.5,3.5,5.5,1.5,3.5,5.5,1.5,3.5,5.5]
    >>> series_seasonal(dynamic([1, 2, 3]))
    [0.0,0.0,0.0]
    """
    array = _array(series)
    if array is None:
        return None
    found = _best_period(array, 0.7) if period is None or period == -1 else period
    if found <= 0:
        return [0.0] * len(array)
    return _listed(_repeated(_season(array, min(found, len(array))), len(array)))


def _decomposed(
    array: Numbers, seasonality: int | None, trend: str | None, test: int | None, threshold: float | None
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Baseline, seasonal, trend and residual parts; the last `test` elements are not learned from."""
    import numpy as np

    size = len(array)
    learned = array[: max(1, size - max(0, test or 0))]
    period = -1 if seasonality is None else seasonality
    # A trend would hide the period, and blur the season.
    level = _level(learned) if trend == "linefit" else learned
    if period < 0:
        period = _best_period(level, 0.6 if threshold is None else threshold)
    seasonal = np.zeros(size)
    if period > 0:
        seasonal = _repeated(_season(level, min(period, len(learned))), size)
    rest = learned - seasonal[: len(learned)]
    places = np.arange(1, size + 1, dtype=np.float64)
    known = np.isfinite(rest)
    line = np.zeros(size)
    if known.any() and trend in (None, "", "avg"):
        line = np.full(size, rest[known].mean())
    elif known.any() and trend == "linefit":
        slope, height = _slope(places[: len(rest)][known], rest[known])
        line = slope * places + height
    baseline = seasonal + line
    residual = array - baseline
    # What rounding leaves is nothing.
    scale = float(np.nanmax(np.abs(array))) if known.any() else 0.0
    residual[np.abs(residual) < 1e-9 * scale] = 0.0
    return baseline, seasonal, line, residual


def _level(array: Numbers) -> Numbers:
    """The series without its linear trend, on the level of its mean."""
    import numpy as np

    known = np.isfinite(array)
    if not known.any():
        return array
    places = np.arange(len(array), dtype=np.float64)
    slope, _ = _slope(places[known], array[known])
    level: Numbers = array - slope * (places - places[known].mean())
    return level


_PARTS = tuple((name, _T.DYNAMIC) for name in ("baseline", "seasonal", "trend", "residual"))


@python(columns=_PARTS)
def series_decompose(
    series: Json,
    seasonality: Whole | None = None,
    trend: Text | None = None,
    test_points: Whole | None = None,
    seasonality_threshold: Float | None = None,
) -> Json | None:
    """Columns baseline (seasonal + trend), seasonal, trend and residual (series - baseline).

    The seasonality is a period, 0 for none, or found if it is -1 or not given. The trend is avg (if not
    given), linefit or none. The last `test_points` elements are not learned from.

    >>> series_decompose(dynamic([1, 2, 3]), 0, "linefit")[3]
    [0.0,0.0,0.0]
    >>> series_decompose(dynamic([1, 2, 9]), 0)[2]
    [4.0,4.0,4.0]
    """
    array = _array(series)
    if array is None:
        return None
    parts = _decomposed(array, seasonality, trend, test_points, seasonality_threshold)
    return [_listed(part) for part in parts]


@python(columns=_PARTS)
def series_decompose_forecast(
    series: Json,
    points: Whole,
    seasonality: Whole | None = None,
    trend: Text | None = None,
    seasonality_threshold: Float | None = None,
) -> Json | None:
    """Column baseline: what the series without its last elements lets expect; then its parts.

    >>> series_decompose_forecast(dynamic([1, 2, 3, 0, 0]), 2, 0, "linefit")[0]
    [1.0,2.0,3.0,4.0,5.0]
    """
    array = _array(series)
    if array is None:
        return None
    return [_listed(part) for part in _decomposed(array, seasonality, trend, points, seasonality_threshold)]


def _tukey(array: Numbers, learned: Numbers, low: float, high: float) -> Numbers:
    """How far each element is outside the range between two percentiles, in lengths of that range."""
    import numpy as np

    known = learned[np.isfinite(learned)]
    if not len(known):
        return np.zeros(len(array))
    bottom, top = (float(bound) for bound in np.percentile(known, [low, high]))
    away = np.where(array > top, array - top, np.where(array < bottom, array - bottom, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(away == 0, 0.0, away / (top - bottom))


def _bounds(kind: str | None, low: float | None, high: float | None) -> tuple[float, float] | None:
    """The percentiles of a kind of Tukey's test; None of an unknown kind or bounds out of range."""
    if kind == "tukey":
        return 25.0, 75.0
    found = 10.0 if low is None else low, 90.0 if high is None else high
    fits = 2 <= found[0] < found[1] <= 98
    return found if kind in (None, "", "ctukey") and fits else None


@python(name_after="")
def series_outliers(
    series: Json,
    kind: Text | None = None,
    ignore: Value | None = None,
    min_percentile: Float | None = None,
    max_percentile: Float | None = None,
) -> Json | None:
    """A score for each element by Tukey's test: above 1.5 or below -1.5 it is an outlier.

    The kind is tukey (percentiles 25 and 75) or ctukey (10 and 90, or those given). Missing elements and
    those equal to `ignore` have score 0.

    >>> series_outliers(dynamic([1, 2, 3, 4, 20]), "tukey")
    [-0.5,0.0,0.0,0.0,8.0]
    """
    import numpy as np

    array, bounds = _array(series), _bounds(kind, min_percentile, max_percentile)
    if array is None or bounds is None:
        return None
    left_out = _number(ignore)
    if left_out is not None:
        array[array == left_out] = math.nan
    scores = _tukey(array, array, *bounds)
    scores[np.isnan(array)] = 0.0
    return _listed(scores)


@python(columns=(("ad_flag", _T.DYNAMIC), ("ad_score", _T.DYNAMIC), ("baseline", _T.DYNAMIC)))
def series_decompose_anomalies(
    series: Json,
    threshold: Float | None = None,
    seasonality: Whole | None = None,
    trend: Text | None = None,
    test_points: Whole | None = None,
    method: Text | None = None,
    seasonality_threshold: Float | None = None,
) -> Json | None:
    """Columns ad_flag (1 up, -1 down, 0 none), ad_score and baseline: outliers of the decomposed residual.

    The threshold is that of the score, 1.5 if not given; the method is ctukey or tukey as in
    series_outliers(), the rest as in series_decompose().

    >>> series_decompose_anomalies(dynamic([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 90]), 1.5, 0)[0]
    [0,0,0,0,0,0,0,0,0,0,0,0,1]
    """
    import numpy as np

    array, bounds = _array(series), _bounds(method, None, None)
    if array is None or bounds is None:
        return None
    baseline, _, _, residual = _decomposed(array, seasonality, trend, test_points, seasonality_threshold)
    learned = residual[: max(1, len(residual) - max(0, test_points or 0))]
    scores = _tukey(residual, learned, *bounds)
    scores[np.isnan(array)] = 0.0
    fence = _FENCE if threshold is None else threshold
    flags = (scores > fence).astype(int) - (scores < -fence).astype(int)
    return [flags.tolist(), scores.tolist(), _listed(baseline)]
