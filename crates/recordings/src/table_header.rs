//! Meaning of the columns of a table, by their names, the same for CSV and Parquet.

use std::borrow::Cow;

use telemetry::{MetricTable, SmolStr, topic::check_level, unit};

use crate::{RecordingOptions, assembler::expected_metric};

/// Hint on how to write a table.
pub const HINT: &str = "a table has the columns `time,zone,device,metric,value`, or `time,zone,device` and \
                        a column for each metric; `site`, `arrival` and `unit` are optional";

/// Names of the event-time column; the first is the usual one.
const TIME: [&str; 4] = ["time", "timestamp", "ts", "datetime"];
const ARRIVAL: [&str; 2] = ["arrival", "arrival_ms"];
const ZONE: [&str; 2] = ["zone", "room"];
/// Names that tools give to a column of row numbers, which are not readings.
const ROW_NUMBERS: [&str; 3] = ["", "index", "__index_level_0__"];
/// Start of the name that pandas gives to a column without one.
const UNNAMED: &str = "unnamed:";
/// Largest number of columns that an error message lists.
const SHOWN_MAX: usize = 20;

/// Position of each column, from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct TableHeader {
    /// Event time.
    pub time: usize,
    /// Arrival time, where it is recorded.
    pub arrival: Option<usize>,
    /// Site.
    pub site: Option<usize>,
    /// Zone.
    pub zone: usize,
    /// Device.
    pub device: Option<usize>,
    /// Columns of metrics and values.
    pub values: ValueColumns,
    /// Unknown columns, none of whose values can be read.
    pub problems: Vec<ColumnProblem>,
}

/// Columns that hold the metrics and values of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueColumns {
    /// One reading per row.
    Long {
        /// Column of metric names.
        metric: usize,
        /// Column of values.
        value: usize,
        /// Column of units.
        unit: Option<usize>,
    },
    /// One column per metric.
    Wide(Vec<MetricColumn>),
}

/// Column of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricColumn {
    /// Position of the column, from 0.
    pub column: usize,
    /// Metric of the column.
    pub metric: SmolStr,
    /// Unit that the header states, or "".
    pub unit: SmolStr,
}

/// Column that is neither a metric nor anything else that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnProblem {
    /// Position of the column, from 0.
    pub column: usize,
    /// Name of the column.
    pub found: String,
    /// Name that was expected.
    pub expected: Cow<'static, str>,
}

/// Reason why a table is not a table of readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderProblem {
    /// Columns found.
    pub found: String,
    /// Column that is missing.
    pub expected: String,
}

impl TableHeader {
    /// Interprets the names of columns, ignoring case. `separator` stands between them in messages,
    /// as in the file.
    ///
    /// # Errors
    /// The table has no time, no zone or no metric, or two columns of one of them.
    pub fn from_names(
        names: &[&str],
        separator: &str,
        options: &RecordingOptions,
    ) -> Result<Self, HeaderProblem> {
        let problem = |expected: String| HeaderProblem {
            found: format!(
                "the columns {}",
                names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(separator)
            ),
            expected,
        };
        let find = |wanted: &[&str]| -> Result<Option<usize>, HeaderProblem> {
            let is_wanted =
                |name: &str| wanted.iter().any(|known| name.eq_ignore_ascii_case(known));
            let mut found = names.iter().enumerate().filter(|(_, name)| is_wanted(name));
            match (found.next(), found.next()) {
                (Some((_, one)), Some((_, other))) => {
                    Err(problem(format!("one of the columns `{one}` and `{other}`")))
                }
                (found, _) => Ok(found.map(|(column, _)| column)),
            }
        };
        let needed = |wanted: &[&str]| {
            find(wanted)?.ok_or_else(|| problem(format!("one named `{}`", wanted[0])))
        };
        let (time, zone) = (needed(&TIME)?, needed(&ZONE)?);
        let (arrival, site, device) = (find(&ARRIVAL)?, find(&["site"])?, find(&["device"])?);
        let mut header = Self {
            time,
            arrival,
            site,
            zone,
            device,
            values: ValueColumns::Wide(Vec::new()),
            problems: Vec::new(),
        };
        if let (Some(metric), Some(value)) = (find(&["metric"])?, find(&["value"])?) {
            header.values = ValueColumns::Long { metric, value, unit: find(&["unit"])? };
            return Ok(header);
        }
        let taken = [Some(time), Some(zone), arrival, site, device];
        let mut metrics: Vec<MetricColumn> = Vec::new();
        for (column, name) in names.iter().enumerate() {
            let is_row_number = ROW_NUMBERS.iter().any(|known| name.eq_ignore_ascii_case(known))
                || name.to_ascii_lowercase().starts_with(UNNAMED);
            if taken.contains(&Some(column)) || is_row_number {
                continue;
            }
            match parse_metric_column(name, options) {
                Ok((metric, unit)) => {
                    if let Some(other) = metrics.iter().find(|other| other.metric == metric) {
                        let other = names[other.column];
                        return Err(problem(format!(
                            "one column of {metric}, and not both `{other}` and `{name}`"
                        )));
                    }
                    metrics.push(MetricColumn { column, metric, unit });
                }
                Err(expected) => {
                    let found = (*name).to_owned();
                    header.problems.push(ColumnProblem { column, found, expected });
                }
            }
        }
        if metrics.is_empty() {
            let expected = match header.problems.first() {
                Some(first) => format!("`metric` and `value`, or {}", first.expected),
                None => "one named `metric`, or one with the name of a metric".to_owned(),
            };
            return Err(problem(expected));
        }
        header.values = ValueColumns::Wide(metrics);
        Ok(header)
    }
}

/// Parses a column's name to a metric and its unit: `Temperature`, `temperature (°F)`,
/// `temperature [°F]`.
fn parse_metric_column(
    name: &str,
    options: &RecordingOptions,
) -> Result<(SmolStr, SmolStr), Cow<'static, str>> {
    let metrics: &MetricTable = &options.metrics;
    if let Some((metric, _)) = metrics.resolve_name(name) {
        return Ok((metric.clone(), SmolStr::default()));
    }
    let brackets = [('(', ')'), ('[', ']')];
    let parts = brackets.into_iter().find_map(|(open, close)| {
        let (name, unit) = name.strip_suffix(close)?.split_once(open)?;
        Some((name.trim(), unit.trim()))
    });
    if let Some((name, given)) = parts
        && let Some((metric, known)) = metrics.resolve_name(name)
    {
        if unit::convert_unit(0.0, given, &known.unit).is_err() {
            return Err(format!(
                "a unit that converts to {}, that of {metric}, in place of `{given}`",
                known.unit
            )
            .into());
        }
        return Ok((metric.clone(), given.into()));
    }
    if options.takes_unknown_metrics && check_level(name).is_ok() {
        return Ok((name.into(), SmolStr::default()));
    }
    Err(expected_metric(metrics, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expect: Result<(&[(usize, &str, &str)], &[usize]), &str>) {
        let got = TableHeader::from_names(names, ";", &RecordingOptions::default());
        match (got, expect) {
            (Ok(header), Ok((metrics, problems))) => {
                let ValueColumns::Wide(found) = &header.values else { panic!("{header:?}") };
                let found: Vec<_> = found
                    .iter()
                    .map(|column| (column.column, &*column.metric, &*column.unit))
                    .collect();
                assert_eq!(found, metrics, "{names:?}");
                let columns: Vec<usize> =
                    header.problems.iter().map(|problem| problem.column).collect();
                assert_eq!(columns, problems, "{names:?}");
            }
            (Err(problem), Err(part)) => {
                let message = format!("{}: {}", problem.found, problem.expected);
                assert!(message.contains(part), "{message}");
            }
            (got, expect) => panic!("{names:?}: {got:?} is not {expect:?}"),
        }
    }

    #[test]
    fn columns_by_name() {
        check(&["Time", "ZONE", "Temperature"], Ok((&[(2, "temperature", "")], &[])));
        check(
            &["", "ts", "room", "Soil Moisture", "temperature (°F)", "Pressure [kPa]"],
            Ok((
                &[(3, "soil_moisture", ""), (4, "temperature", "°F"), (5, "pressure", "kPa")],
                &[],
            )),
        );
        check(
            &["__index_level_0__", "Unnamed: 0", "time", "zone", "co2", "warmth", "light (m)"],
            Ok((&[(4, "co2", "")], &[5, 6])),
        );
        check(
            &["Zeit", "Raum", "Temperatur"],
            Err("the columns Zeit;Raum;Temperatur: one named `time`"),
        );
        check(&["time", "room2"], Err("one named `zone`"));
        check(&["time", "zone"], Err("one named `metric`"));
        check(&["time", "zone", "temprature"], Err("did you mean `temperature`?"));
        check(&["time", "Timestamp", "zone", "co2"], Err("`time` and `Timestamp`"));
        check(&["time", "zone", "CO2", "co2"], Err("not both `CO2` and `co2`"));
        let long = TableHeader::from_names(
            &["value", "unit", "time", "zone", "metric", "note"],
            ",",
            &RecordingOptions::default(),
        );
        let values = ValueColumns::Long { metric: 4, value: 0, unit: Some(1) };
        assert_eq!(long.unwrap().values, values);
    }
}
