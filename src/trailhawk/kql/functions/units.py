"""Units of measure. An unknown unit gives null."""

from __future__ import annotations

import math

from trailhawk.kql.functions.python import Float, Text, python

Factors = dict[str, float]
"""How many of the base unit one unit is."""

_PREFIXES = {
    "Nano": 1e-9,
    "Micro": 1e-6,
    "Milli": 1e-3,
    "Centi": 1e-2,
    "Deci": 0.1,
    "": 1.0,
    "Deca": 10.0,
    "Hecto": 1e2,
    "Kilo": 1e3,
    "Mega": 1e6,
    "Giga": 1e9,
    "Tera": 1e12,
}


def _scaled(name: str, factor: float, *prefixes: str) -> Factors:
    """A unit with its prefixes: Kilo and meter make Kilometer."""
    return {
        (f"{prefix}{name}" if prefix else name[0].upper() + name[1:]): _PREFIXES[prefix] * factor
        for prefix in prefixes
    }


_ANGLE: Factors = {
    **_scaled("radian", 1.0, "Nano", "Micro", "Milli", "Centi", "Deci", ""),
    **_scaled("degree", math.pi / 180, "Nano", "Micro", "Milli", ""),
    "Arcminute": math.pi / 180 / 60,
    "Arcsecond": math.pi / 180 / 3600,
    "Gradian": math.pi / 200,
    "NatoMil": math.pi / 3200,
    "Revolution": 2 * math.pi,
    "Tilt": 1.0,
}
_JOULES_OF_BTU, _HORSEPOWER = 1055.05585262, 745.69987158227022
_ENERGY: Factors = {
    **_scaled("joule", 1.0, "Milli", "", "Kilo", "Mega", "Giga"),
    **_scaled("wattHour", 3600.0, "", "Kilo", "Mega", "Giga", "Tera"),
    **_scaled("wattDay", 86400.0, "", "Kilo", "Mega", "Giga", "Tera"),
    **_scaled("calorie", 4.184, "", "Kilo", "Mega"),
    **_scaled("electronVolt", 1.602176565e-19, "", "Kilo", "Mega", "Giga", "Tera"),
    **_scaled("britishThermalUnit", _JOULES_OF_BTU, "", "Kilo", "Mega", "Giga"),
    **_scaled("thermEc", 105505585.262, "", "Deca"),
    **_scaled("thermImperial", 1.05505585257348e8, "", "Deca"),
    **_scaled("thermUs", 1.054804e8, "", "Deca"),
    "Erg": 1e-7,
    "FootPound": 1.3558179483314004,
    "HorsepowerHour": _HORSEPOWER * 3600,
}
_FORCE: Factors = {
    **_scaled("newton", 1.0, "Micro", "Milli", "", "Deca", "Kilo", "Mega"),
    "Dyn": 1e-5,
    "KilogramForce": 9.80665,
    "KiloPond": 9.80665,
    "PoundForce": 4.4482216152605,
    "KilopoundForce": 4448.2216152605,
    "OunceForce": 4.4482216152605 / 16,
    "Poundal": 0.138254954376,
    "ShortTonForce": 8896.443230521,
    "TonneForce": 9806.65,
}
_PARSEC, _LIGHT_YEAR, _INCH, _FOOT, _SURVEY_FOOT = (
    3.08567758128e16,
    9.46073047258e15,
    0.0254,
    0.3048,
    1200 / 3937,
)
_LENGTH: Factors = {
    **_scaled("meter", 1.0, "Nano", "Micro", "Milli", "Centi", "Deci", "", "Deca", "Hecto", "Kilo", "Mega"),
    **_scaled("parsec", _PARSEC, "", "Kilo", "Mega"),
    **_scaled("lightYear", _LIGHT_YEAR, "", "Kilo", "Mega"),
    "Angstrom": 1e-10,
    "AstronomicalUnit": 1.4959787070e11,
    "Chain": 20.1168,
    "DataMile": 1828.8,
    "DtpPica": _INCH / 6,
    "DtpPoint": _INCH / 72,
    "Fathom": 1.8288,
    "Foot": _FOOT,
    "Hand": 0.1016,
    "Inch": _INCH,
    "Microinch": _INCH * 1e-6,
    "Mil": _INCH * 1e-3,
    "Mile": 1609.344,
    "NauticalMile": 1852.0,
    "PrinterPica": _INCH * 400 / 2409,
    "PrinterPoint": _INCH / 72.27,
    "Shackle": 27.432,
    "SolarRadius": 6.95510e8,
    "Twip": _INCH / 1440,
    "UsSurveyFoot": _SURVEY_FOOT,
    "Yard": 0.9144,
}
_POUND = 0.45359237
_MASS: Factors = {
    **_scaled("gram", 1e-3, "Nano", "Micro", "Milli", "Centi", "Deci", "", "Deca", "Hecto", "Kilo"),
    **_scaled("pound", _POUND, "", "Kilo", "Mega"),
    **_scaled("tonne", 1e3, "", "Kilo", "Mega"),
    "EarthMass": 5.9722e24,
    "Grain": _POUND / 7000,
    "LongHundredweight": _POUND * 112,
    "LongTon": _POUND * 2240,
    "Ounce": _POUND / 16,
    "ShortHundredweight": _POUND * 100,
    "ShortTon": _POUND * 2000,
    "Slug": 14.593902937206364,
    "SolarMass": 1.98947e30,
    "Stone": _POUND * 14,
}
_SECONDS = {"Hour": 3600, "Minute": 60, "Second": 1}
_SPEED: Factors = {
    **{
        f"{length}Per{time}": _LENGTH[length] / seconds
        for length in (
            *("Nanometer", "Micrometer", "Millimeter", "Centimeter", "Decimeter", "Meter", "Kilometer"),
            *("Inch", "Foot", "UsSurveyFoot", "Yard", "Mile"),
        )
        for time, seconds in _SECONDS.items()
    },
    "Knot": 1852 / 3600,
}
_LITER, _US_GALLON, _GALLON = 1e-3, 0.003785411784, 0.00454609
_CUBED = ("Meter", "Micrometer", "Millimeter", "Centimeter", "Decimeter", "Hectometer", "Kilometer")
_VOLUME: Factors = {
    **_scaled("liter", _LITER, "Micro", "Milli", "Centi", "Deci", "", "Deca", "Hecto", "Kilo", "Mega"),
    **_scaled("usGallon", _US_GALLON, "Deca", "Deci", "Hecto", "Kilo", "Mega"),
    **{f"Cubic{name}": _LENGTH[name] ** 3 for name in _CUBED},
    **_scaled("cubicFoot", _FOOT**3, "", "Hecto", "Kilo", "Mega"),
    **_scaled("cubicMeter", 1.0, "", "Hecto", "Kilo"),
    **_scaled("imperialGallon", _GALLON, "", "Kilo", "Mega"),
    "UsGallon": _US_GALLON,
    "AcreFoot": 1 / 0.000810714,
    "AuTablespoon": 2e-5,
    "BoardFoot": _FOOT**3 / 12,
    "CubicInch": _INCH**3,
    "CubicMile": 1609.344**3,
    "CubicYard": 0.9144**3,
    "ImperialBeerBarrel": _GALLON * 36,
    "ImperialOunce": _GALLON / 160,
    "ImperialPint": _GALLON / 8,
    "MetricCup": 2.5e-4,
    "MetricTeaspoon": 5e-6,
    "OilBarrel": _US_GALLON * 42,
    "UkTablespoon": 1.5e-5,
    "UsBeerBarrel": _US_GALLON * 31,
    "UsCustomaryCup": _US_GALLON / 16,
    "UsLegalCup": 2.4e-4,
    "UsOunce": _US_GALLON / 128,
    "UsPint": _US_GALLON / 8,
    "UsQuart": _US_GALLON / 4,
    "UsTablespoon": _US_GALLON / 256,
    "UsTeaspoon": _US_GALLON / 768,
}
_TEMPERATURE: dict[str, tuple[float, float]] = {
    "Kelvin": (1.0, 0.0),
    "DegreeCelsius": (1.0, 273.15),
    "MillidegreeCelsius": (1e-3, 273.15),
    "DegreeDelisle": (-2 / 3, 373.15),
    "DegreeFahrenheit": (5 / 9, 459.67 * 5 / 9),
    "DegreeNewton": (100 / 33, 273.15),
    "DegreeRankine": (5 / 9, 0.0),
    "DegreeReaumur": (5 / 4, 273.15),
    "DegreeRoemer": (40 / 21, 273.15 - 7.5 * 40 / 21),
    "SolarTemperature": (5778.0, 0.0),
}
"""Kelvins of one degree, and of its zero."""


def _converted(value: float | None, source: str, target: str, factors: Factors) -> float | None:
    if value is None or source not in factors or target not in factors:
        return None
    return value * factors[source] / factors[target]


@python()
def convert_angle(value: Float, source: Text, target: Text) -> Float | None:
    """An angle in another unit.

    >>> round(convert_angle(1.2, "Degree", "Arcminute"), 9)
    72.0
    >>> convert_angle(1.2, "Degree", "Ell")
    null
    """
    return _converted(value, source, target, _ANGLE)


@python()
def convert_energy(value: Float, source: Text, target: Text) -> Float | None:
    """An energy in another unit.

    >>> round(convert_energy(1.2, "Joule", "BritishThermalUnit"), 12)
    0.001137380544
    """
    return _converted(value, source, target, _ENERGY)


@python()
def convert_force(value: Float, source: Text, target: Text) -> Float | None:
    """A force in another unit.

    >>> convert_force(1.2, "Newton", "Decanewton")
    0.12
    """
    return _converted(value, source, target, _FORCE)


@python()
def convert_length(value: Float, source: Text, target: Text) -> Float | None:
    """A length in another unit.

    >>> round(convert_length(1.2, "Meter", "Foot"), 9)
    3.937007874
    """
    return _converted(value, source, target, _LENGTH)


@python()
def convert_mass(value: Float, source: Text, target: Text) -> Float | None:
    """A mass in another unit.

    >>> round(convert_mass(1.2, "Kilogram", "Pound"), 9)
    2.645547146
    """
    return _converted(value, source, target, _MASS)


@python()
def convert_speed(value: Float, source: Text, target: Text) -> Float | None:
    """A speed in another unit.

    >>> round(convert_speed(1.2, "MeterPerSecond", "CentimeterPerHour"), 6)
    432000.0
    """
    return _converted(value, source, target, _SPEED)


@python()
def convert_volume(value: Float, source: Text, target: Text) -> Float | None:
    """A volume in another unit.

    >>> round(convert_volume(1.2, "CubicMeter", "AcreFoot"), 12)
    0.0009728568
    """
    return _converted(value, source, target, _VOLUME)


@python()
def convert_temperature(value: Float, source: Text, target: Text) -> Float | None:
    """A temperature in another unit.

    >>> round(convert_temperature(1.2, "Kelvin", "DegreeCelsius"), 9)
    -271.95
    """
    if value is None or source not in _TEMPERATURE or target not in _TEMPERATURE:
        return None
    (size, zero), (other_size, other_zero) = _TEMPERATURE[source], _TEMPERATURE[target]
    return (value * size + zero - other_zero) / other_size
