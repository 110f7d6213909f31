"""Formulas of growers and climate engineers, as the feature engine computes them.

Arguments are numbers, or columns of equal length: lists, NumPy arrays, polars and pandas Series,
pyarrow arrays; a number beside columns is repeated. The result has the form of the first column.
Unknown values and values outside a formula's range give ``None`` (null, or NaN in NumPy).

>>> deficit_kpa(24.0, 55.0)
1.342...
>>> dew_point_c([20.0, 25.0], 60.0)
[12.0..., 16.7...]

"FAO 56" is R. G. Allen, L. S. Pereira, D. Raes, M. Smith, "Crop evapotranspiration", FAO
Irrigation and Drainage Paper 56, Rome 1998.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

from . import _engine
from ._engine import InputError

__all__ = [name for name, _ in _engine.formula_names()]


def _is_number(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (int, float))
        or hasattr(value, "__float__")
        and not hasattr(value, "__len__")
    )


def _numbers(column: Any) -> bytes:
    """8-byte floats of a column, NaN for null."""
    if hasattr(column, "to_numpy"):
        module = type(column).__module__
        if module.startswith("pyarrow"):
            column = (
                column.to_numpy(zero_copy_only=False)
                if hasattr(column, "null_count")
                else column.to_numpy()
            )
        elif module.startswith("pandas"):
            column = column.to_numpy(dtype="float64", na_value=math.nan)
        else:
            column = column.to_numpy()
    if hasattr(column, "astype"):
        return bytes(column.astype("float64").tobytes())
    return array("d", [math.nan if value is None else value for value in column]).tobytes()


def _like(column: Any, values: array[float], name: str) -> Any:
    """Values in the form of a column."""
    module = type(column).__module__
    if module.startswith("polars"):
        import polars

        return polars.Series(name, values.tolist(), dtype=polars.Float64).fill_nan(None)
    if module.startswith("pandas"):
        import pandas

        return pandas.Series(values, index=column.index, name=name, dtype="float64")
    if module.startswith("pyarrow"):
        import pyarrow

        return pyarrow.array(values.tolist(), pyarrow.float64(), from_pandas=True)
    if module.startswith("numpy"):
        import numpy

        return numpy.array(values)
    return [None if math.isnan(value) else value for value in values]


def _apply(name: str, *arguments: Any) -> Any:
    columns = [argument for argument in arguments if not _is_number(argument)]
    rows = len(columns[0]) if columns else 1
    numbers = []
    for argument in arguments:
        if _is_number(argument):
            number = math.nan if argument is None else float(argument)
            numbers.append(array("d", [number]).tobytes() * rows)
        else:
            if len(argument) != rows:
                raise InputError(f"the columns of `{name}` have {rows} and {len(argument)} rows")
            numbers.append(_numbers(argument))
    values = array("d")
    values.frombytes(_engine.apply_formula(name, numbers))
    if columns:
        return _like(columns[0], values, name)
    return None if math.isnan(values[0]) else values[0]


def saturation_kpa(temperature_c: Any) -> Any:
    """Saturation vapour pressure, kPa, over water at a temperature, °C. FAO 56, equation 11."""
    return _apply("saturation_kpa", temperature_c)


def saturation_slope_kpa_c(temperature_c: Any) -> Any:
    """Slope of the saturation vapour pressure curve, kPa/°C. FAO 56, equation 13."""
    return _apply("saturation_slope_kpa_c", temperature_c)


def vapour_kpa(temperature_c: Any, humidity_pct: Any) -> Any:
    """Vapour pressure, kPa, of air at °C and %RH (0–100). FAO 56, equation 10."""
    return _apply("vapour_kpa", temperature_c, humidity_pct)


def deficit_kpa(temperature_c: Any, humidity_pct: Any) -> Any:
    """Vapour-pressure deficit, kPa, ≥ 0: how much more vapour the air could hold. FAO 56,
    equations 10 and 11.

    >>> round(deficit_kpa(25.0, 60.0), 3)
    1.267
    """
    return _apply("deficit_kpa", temperature_c, humidity_pct)


def dew_point_c(temperature_c: Any, humidity_pct: Any) -> Any:
    """Dew point, °C, of air at °C and %RH; nothing for dry air. Inverse of FAO 56, equation 11."""
    return _apply("dew_point_c", temperature_c, humidity_pct)


def absolute_humidity_g_m3(temperature_c: Any, humidity_pct: Any) -> Any:
    """Absolute humidity, g of water per m³ of air, by the ideal gas law."""
    return _apply("absolute_humidity_g_m3", temperature_c, humidity_pct)


def wet_bulb_c(temperature_c: Any, humidity_pct: Any) -> Any:
    """Wet-bulb temperature, °C, for −20 to 50 °C and 5 to 99 %RH. R. Stull, 2011."""
    return _apply("wet_bulb_c", temperature_c, humidity_pct)


def heat_index_c(temperature_c: Any, humidity_pct: Any) -> Any:
    """Heat index, °C; nothing where it is too cold for one. L. P. Rothfusz, 1990."""
    return _apply("heat_index_c", temperature_c, humidity_pct)


def heating_degree_hours(temperature_c: Any, base_c: Any, hours: Any) -> Any:
    """Heating degree-hours, °C h, ≥ 0: max(0, base − T) for a number of hours."""
    return _apply("heating_degree_hours", temperature_c, base_c, hours)


def cooling_degree_hours(temperature_c: Any, base_c: Any, hours: Any) -> Any:
    """Cooling degree-hours, °C h, ≥ 0: max(0, T − base) for a number of hours."""
    return _apply("cooling_degree_hours", temperature_c, base_c, hours)


def pressure_kpa(altitude_m: Any) -> Any:
    """Atmospheric pressure, kPa, at an altitude of −500 to 6000 m. FAO 56, equation 7."""
    return _apply("pressure_kpa", altitude_m)


def psychrometric_kpa_c(pressure_kpa: Any) -> Any:
    """Psychrometric constant, kPa/°C, at a pressure of 40 to 120 kPa. FAO 56, equation 8."""
    return _apply("psychrometric_kpa_c", pressure_kpa)


def wind_2m(wind_m_s: Any, height_m: Any) -> Any:
    """Wind at 2 m, m/s, from the wind at a height of 1 to 100 m. FAO 56, equation 47."""
    return _apply("wind_2m", wind_m_s, height_m)


def hargreaves_mm(max_c: Any, min_c: Any, extraterrestrial_mj: Any) -> Any:
    """Reference evapotranspiration of a day, mm, from its extremes, °C, and the extraterrestrial
    radiation, MJ/m² d. FAO 56, equation 52."""
    return _apply("hargreaves_mm", max_c, min_c, extraterrestrial_mj)


def extraterrestrial_daily(latitude_deg: Any, day_of_year: Any) -> Any:
    """Radiation above the atmosphere, MJ/m² d, at a latitude and a day of the year (1–366).
    FAO 56, equation 21."""
    return _apply("extraterrestrial_daily", latitude_deg, day_of_year)


def daylight_h(latitude_deg: Any, day_of_year: Any) -> Any:
    """Hours of daylight. FAO 56, equation 34."""
    return _apply("daylight_h", latitude_deg, day_of_year)


def ppfd_umol_m2_s(illuminance_lux: Any, ppfd_per_lux: Any) -> Any:
    """Photon flux density, µmol/(m² s), of an illuminance, lux, by a lamp's or the sun's factor
    (sunlight: about 0.0185)."""
    return _apply("ppfd_umol_m2_s", illuminance_lux, ppfd_per_lux)


def integral_mol_m2(ppfd_umol_m2_s: Any, seconds: Any) -> Any:
    """Light integral, mol/m², of a mean photon flux density over a number of seconds; over a day,
    the daily light integral."""
    return _apply("integral_mol_m2", ppfd_umol_m2_s, seconds)


def supplement_h(target_mol_m2: Any, got_mol_m2: Any, lamp_umol_m2_s: Any) -> Any:
    """Hours of supplemental light that raise a day's light integral to a target."""
    return _apply("supplement_h", target_mol_m2, got_mol_m2, lamp_umol_m2_s)


def depth_mm(moisture_pct: Any, root_depth_m: Any) -> Any:
    """Water in the root zone, mm, at a volumetric moisture, %, and a root depth, m."""
    return _apply("depth_mm", moisture_pct, root_depth_m)
