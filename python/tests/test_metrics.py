"""Formulas: numbers of their sources, and every form of column."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import microclimate as mc
from microclimate import metrics


@pytest.mark.parametrize(
    ("value", "expect", "tolerance"),
    [
        (metrics.saturation_kpa(24.5), 3.075, 5e-3),  # FAO 56, example 3
        (metrics.saturation_kpa(15.0), 1.705, 5e-4),  # FAO 56, example 3
        (metrics.pressure_kpa(1800.0), 81.8, 5e-2),  # FAO 56, example 2
        (metrics.psychrometric_kpa_c(81.8), 0.054, 5e-4),  # FAO 56, example 2
        (metrics.wind_2m(3.2, 10.0), 2.4, 5e-2),  # FAO 56, example 14
        (metrics.extraterrestrial_daily(-20.0, 246), 32.2, 5e-2),  # FAO 56, example 8
        (metrics.daylight_h(-20.0, 246), 11.7, 5e-2),  # FAO 56, example 9
        (metrics.wet_bulb_c(20.0, 50.0), 13.7, 5e-2),  # Stull 2011, section 3
        (metrics.heating_degree_hours(15.5, 18.0, 2.0), 5.0, 1e-12),
        (metrics.cooling_degree_hours(26.0, 24.0, 3.0), 6.0, 1e-12),
        (metrics.integral_mol_m2(200.0, 3600.0), 0.72, 1e-12),
        (metrics.supplement_h(15.0, 7.8, 200.0), 10.0, 1e-9),
        (metrics.depth_mm(30.0, 0.4), 120.0, 1e-9),
    ],
)
def test_numbers_of_the_sources(value, expect, tolerance):
    assert value == pytest.approx(expect, abs=tolerance)


def test_dew_point_is_where_vapour_saturates():
    dew = metrics.dew_point_c(25.0, 60.0)
    assert metrics.saturation_kpa(dew) == pytest.approx(metrics.vapour_kpa(25.0, 60.0), rel=1e-12)
    assert metrics.deficit_kpa(25.0, 100.0) == 0.0


def test_every_form_of_column_has_the_same_values():
    temperature, humidity = [20.0, None, 25.0, 500.0], [50.0, 60.0, 70.0, 50.0]
    expect = metrics.deficit_kpa(temperature, humidity)
    assert expect[1] is None and expect[3] is None
    assert expect[0] == metrics.deficit_kpa(20, 50)
    assert metrics.deficit_kpa(pl.Series(temperature), pl.Series(humidity)).to_list() == expect
    assert metrics.deficit_kpa(pa.array(temperature), pa.array(humidity)).to_pylist() == expect
    assert metrics.deficit_kpa(pa.chunked_array([temperature]), 50.0).to_pylist()[0] == expect[0]
    series = metrics.deficit_kpa(pd.Series(temperature, index=list("abcd")), pd.Series(humidity))
    assert list(series.index) == list("abcd")
    assert [None if math.isnan(value) else value for value in series] == expect
    array = metrics.deficit_kpa(np.array([20, 25]), np.float32(50))
    assert array.dtype == np.float64
    assert array.tolist() == metrics.deficit_kpa([20.0, 25.0], 50.0)
    assert metrics.deficit_kpa([], []) == []


def test_wrong_columns_are_refused():
    with pytest.raises(mc.InputError, match="2 and 3 rows"):
        metrics.deficit_kpa([1, 2], [1, 2, 3])
    assert metrics.daylight_h(50.0, 12.5) is None
    assert metrics.deficit_kpa(None, 50.0) is None


def test_every_formula_is_exported_with_its_arguments():
    import inspect

    from microclimate import _engine

    for name, count in _engine.formula_names():
        function = getattr(metrics, name)
        assert len(inspect.signature(function).parameters) == count, name
        assert function.__doc__, name
    assert len(metrics.__all__) == 20
