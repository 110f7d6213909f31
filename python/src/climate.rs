use std::sync::Arc;

use agronomy::{
    drying::DryingTrend,
    formula::{air, degrees, evapotranspiration, light, radiation, soil},
};
use arrow_array::{ArrayRef, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, TimeUnit};
use feature_engine::engine::EngineOutput;
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};
use pyo3_arrow::PyRecordBatchReader;
use telemetry::ReportSource;

use crate::{
    config::EngineConfig,
    errors::InputError,
    features::{empty_report, fill_report, now_ms, read_frame},
    order::IngestOrder,
    output::{RowTable, nullable_numbers, table_of_columns},
};

/// A formula of numbers, under the name that it has in Python.
enum Formula {
    One(fn(f64) -> Option<f64>),
    Two(fn(f64, f64) -> Option<f64>),
    Three(fn(f64, f64, f64) -> Option<f64>),
}

/// Day of a year from a number; nothing for one that is not whole.
fn day_of_year(day: f64) -> Option<u16> {
    (day.fract() == 0.0 && (1.0..=366.0).contains(&day)).then_some(day as u16)
}

const FORMULAS: [(&str, Formula); 20] = [
    ("saturation_kpa", Formula::One(air::saturation_kpa)),
    ("saturation_slope_kpa_c", Formula::One(air::saturation_slope_kpa_c)),
    ("vapour_kpa", Formula::Two(air::vapour_kpa)),
    ("deficit_kpa", Formula::Two(air::deficit_kpa)),
    ("dew_point_c", Formula::Two(air::dew_point_c)),
    ("absolute_humidity_g_m3", Formula::Two(air::absolute_humidity_g_m3)),
    ("wet_bulb_c", Formula::Two(air::wet_bulb_c)),
    ("heat_index_c", Formula::Two(air::heat_index_c)),
    ("heating_degree_hours", Formula::Three(degrees::heating_degree_hours)),
    ("cooling_degree_hours", Formula::Three(degrees::cooling_degree_hours)),
    ("pressure_kpa", Formula::One(evapotranspiration::pressure_kpa)),
    ("psychrometric_kpa_c", Formula::One(evapotranspiration::psychrometric_kpa_c)),
    ("wind_2m", Formula::Two(evapotranspiration::wind_2m)),
    ("hargreaves_mm", Formula::Three(evapotranspiration::hargreaves_mm)),
    (
        "extraterrestrial_daily",
        Formula::Two(|latitude, day| {
            radiation::extraterrestrial_daily(latitude, day_of_year(day)?)
        }),
    ),
    (
        "daylight_h",
        Formula::Two(|latitude, day| radiation::daylight_h(latitude, day_of_year(day)?)),
    ),
    ("ppfd_umol_m2_s", Formula::Two(light::ppfd_umol_m2_s)),
    ("integral_mol_m2", Formula::Two(light::integral_mol_m2)),
    ("supplement_h", Formula::Three(light::supplement_h)),
    ("depth_mm", Formula::Two(soil::depth_mm)),
];

/// Names of the formulas, each with its number of arguments.
#[pyfunction]
pub(crate) fn formula_names() -> Vec<(&'static str, usize)> {
    let arguments = |formula: &Formula| match formula {
        Formula::One(_) => 1,
        Formula::Two(_) => 2,
        Formula::Three(_) => 3,
    };
    FORMULAS.iter().map(|(name, formula)| (*name, arguments(formula))).collect()
}

/// Applies a formula to columns of 8-byte floats in the machine's byte order. NaN stands for what
/// is unknown or outside the formula's range.
#[pyfunction]
pub(crate) fn apply_formula<'py>(
    py: Python<'py>,
    name: &str,
    columns: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let found = FORMULAS.iter().find(|(own, _)| *own == name);
    let (_, formula) =
        found.ok_or_else(|| InputError::new_err(format!("there is no formula `{name}`")))?;
    let numbers: Vec<Vec<f64>> = columns.iter().map(|bytes| read_numbers(bytes)).collect();
    let rows = numbers.first().map_or(0, Vec::len);
    if numbers.iter().any(|column| column.len() != rows) {
        return Err(InputError::new_err(format!("the columns of `{name}` differ in length")));
    }
    let values: Vec<Option<f64>> = match (formula, &numbers[..]) {
        (Formula::One(formula), [a]) => a.iter().map(|a| formula(*a)).collect(),
        (Formula::Two(formula), [a, b]) => a.iter().zip(b).map(|(a, b)| formula(*a, *b)).collect(),
        (Formula::Three(formula), [a, b, c]) => {
            a.iter().zip(b).zip(c).map(|((a, b), c)| formula(*a, *b, *c)).collect()
        }
        (_, given) => {
            let what = format!("`{name}` was given {} columns", given.len());
            return Err(InputError::new_err(what));
        }
    };
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| value.unwrap_or(f64::NAN).to_ne_bytes()).collect();
    Ok(PyBytes::new(py, &bytes))
}

fn read_numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|chunk| f64::from_ne_bytes(*chunk)).collect()
}

/// Drying trend of every soil probe of a frame, as of its zone's newest reading.
#[pyfunction]
pub(crate) fn drying_trends(
    py: Python<'_>,
    frame: PyRecordBatchReader,
    settings: &str,
    order: &str,
) -> PyResult<RowTable> {
    // One drying feature, so that the engine keeps the readings that trends need.
    let text = "version = 1\ndrying = [\"slope_pct_h\"]\n".to_owned();
    let definitions = Some(("drying".to_owned(), text));
    let config = EngineConfig::new(definitions, "{}", settings, None)?;
    let order = IngestOrder::parse(order)?;
    let mut frame = read_frame(frame, &config, ReportSource::Backfill)?;
    if !frame.metrics.names.iter().any(|name| name == "soil_moisture") {
        return Err(InputError::new_err("the frame has no readings of `soil_moisture`"));
    }
    py.detach(|| {
        order.apply(&mut frame)?;
        frame.zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        let mut trends: Vec<(String, String, DryingTrend)> = Vec::new();
        for zone in &frame.zones {
            let mut engine = config.open_engine(&[])?;
            let mut output = EngineOutput::default();
            let (mut report, received_ms) = (empty_report(zone), now_ms());
            for one in &zone.readings {
                fill_report(&mut report, &frame, one);
                engine.ingest_report(&report, received_ms, &mut output);
                output = EngineOutput::default();
            }
            engine.finish_all(&mut output);
            for (device, trend) in engine.drying_trends(&zone.zone) {
                trends.push((zone.zone.to_string(), device.to_string(), trend));
            }
        }
        trend_table(&trends)
    })
}

fn trend_table(trends: &[(String, String, DryingTrend)]) -> PyResult<RowTable> {
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let text = |of: fn(&(String, String, DryingTrend)) -> &String| -> ArrayRef {
        Arc::new(trends.iter().map(|trend| Some(of(trend))).collect::<StringArray>())
    };
    let times = trends.iter().map(|(.., trend)| trend.at_ms);
    let times = TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC");
    let moisture = nullable_numbers(trends.iter().map(|(.., trend)| Some(trend.last.pct)));
    let mut names = vec![("zone", DataType::Utf8), ("device", DataType::Utf8)];
    names.extend([("time", utc), ("moisture_pct", DataType::Float64)]);
    let mut columns =
        vec![text(|(zone, ..)| zone), text(|(_, device, _)| device), Arc::new(times), moisture];
    for (number, name) in DryingTrend::NAMES.iter().enumerate() {
        names.push((name, DataType::Float64));
        columns.push(nullable_numbers(
            trends.iter().map(|(.., trend)| trend.feature_values()[number]),
        ));
    }
    table_of_columns(&names, columns)
}
