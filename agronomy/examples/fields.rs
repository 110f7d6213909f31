//! Checks the drying trend on four irrigated fields: `Train.csv` of the Wazihub
//! soil moisture challenge (Zindi, 2019).
//!
//! ```text
//! cargo run --release -p agronomy --example fields -- DIR/wazihub/Train.csv
//! ```
//!
//! The published 5-minute series is a straight line between whole-numbered
//! readings some 3 h apart, and its irrigation flag is on wherever it rises.
//! So the readings are recovered (the knots), nothing but knots at or before
//! t is used at t, and the flags serve as labels only.

use std::{env, fs::File, path::Path};

use agronomy::drying::{Basis, Drying, Forecast, Settings};
use anyhow::{Context, Result, ensure};
use jiff::civil::DateTime;

const STEP_MS: i64 = 300_000;
const HOUR_MS: f64 = 3_600_000.0;
const FIELDS: usize = 4;
/// 19 April 2019, 0:00 UTC.
const TEST_FROM_MS: i64 = 1_555_632_000_000;
/// Forecasts are asked up to here, hours.
const HORIZON_H: f64 = 48.0;

fn main() -> Result<()> {
    let path = env::args().nth(1).context("which file? give the path of Train.csv")?;
    let fields = read(Path::new(&path))?;
    println!("Waterings: a found onset counts if it is within one reading interval of a run of");
    println!("irrigation flags; a run is found if an onset is.");
    println!("field  knots  interval  runs  found  precision  recall  recall of rises ≥ 4 %");
    let knots: Vec<Knots> = fields.iter().map(Knots::recover).collect();
    for (number, (field, knots)) in fields.iter().zip(&knots).enumerate() {
        Waterings::judge(field, knots).print(number + 1, knots);
    }
    println!();
    println!("Hours to the 20th percentile of the field's knots, up to 48 h, no watering between.");
    println!(
        "field  times   critical  cases  censored  watered  line MAE  dry-down MAE  90 % covers"
    );
    let mut all = Forecasts::default();
    for (number, knots) in knots.iter().enumerate() {
        let forecasts = Forecasts::judge(knots);
        forecasts.print(&(number + 1).to_string(), &knots.times());
        all.add(forecasts);
    }
    all.print("all", "");
    Ok(())
}

/// One field as published: every 5 minutes moisture, %, and the flag.
struct Field {
    first_ms: i64,
    moisture: Vec<Option<f64>>,
    flag: Vec<bool>,
}

impl Field {
    fn at_ms(&self, row: usize) -> i64 {
        self.first_ms + row as i64 * STEP_MS
    }
}

fn read(path: &Path) -> Result<Vec<Field>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut rows = csv::Reader::from_reader(file);
    let mut fields: Vec<Field> = Vec::new();
    for (number, row) in rows.records().enumerate() {
        let row = row?;
        let cell = |i: usize| row.get(i).with_context(|| format!("row {number}: no column {i}"));
        let time: DateTime = DateTime::strptime("%Y-%m-%d %H:%M:%S", cell(0)?)?;
        let at_ms = time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_millisecond();
        if fields.is_empty() {
            let empty = || Field { first_ms: at_ms, moisture: Vec::new(), flag: Vec::new() };
            fields = (0..FIELDS).map(|_| empty()).collect();
        }
        for (i, field) in fields.iter_mut().enumerate() {
            let expected_ms = field.at_ms(field.moisture.len());
            ensure!(at_ms == expected_ms, "row {number}: not 5 minutes after the one before");
            field.moisture.push(cell(1 + 2 * i)?.parse().ok());
            field.flag.push(cell(2 + 2 * i)? == "1");
        }
    }
    Ok(fields)
}

/// The readings that the published series was drawn between.
struct Knots {
    /// Row, time in ms, %.
    points: Vec<(usize, i64, f64)>,
    interval_rows: f64,
}

impl Knots {
    /// Walks from knot to knot, first with a guess of the interval, then with
    /// the mean of those that a bend makes certain.
    fn recover(field: &Field) -> Self {
        let guess = Self::walk(field, 37.5);
        let clear: Vec<f64> = guess
            .windows(2)
            .filter(|pair| field.moisture[pair[0]] != field.moisture[pair[1]])
            .map(|pair| (pair[1] - pair[0]) as f64)
            .filter(|rows| (34.0..=42.0).contains(rows))
            .collect();
        let interval_rows = clear.iter().sum::<f64>() / clear.len() as f64;
        let points = Self::walk(field, interval_rows)
            .into_iter()
            .filter_map(|row| Some((row, field.at_ms(row), field.moisture[row]?)))
            .collect();
        Self { points, interval_rows }
    }

    fn walk(field: &Field, interval_rows: f64) -> Vec<usize> {
        let is_whole = |row: usize| field.moisture[row].is_some_and(|pct| pct == pct.round());
        let rows = field.moisture.len();
        let mut knots: Vec<usize> = (0..rows).find(|row| is_whole(*row)).into_iter().collect();
        while let Some(&knot) = knots.last() {
            let joins = |end: &usize| is_whole(*end) && is_straight(field, knot, *end);
            let (near, far) =
                (knot + interval_rows as usize - 1, knot + interval_rows as usize + 3);
            let off = |end: &usize| (((end - knot) as f64 - interval_rows).abs() * 100.0) as u64;
            let next = (near..(far + 1).min(rows)).filter(joins).min_by_key(off).or_else(|| {
                // Readings are missing: as far as the line goes; or the series is.
                (knot + 1..rows.min(knot + 1200))
                    .take_while(|end| field.moisture[*end].is_some())
                    .filter(joins)
                    .last()
                    .or_else(|| (knot + 1..rows).find(|row| is_whole(*row)))
            });
            match next {
                Some(next) => knots.push(next),
                None => break,
            }
        }
        knots
    }

    /// Whether it goes on for long enough after the test begins.
    fn has_test(&self) -> bool {
        let end_ms = self.points.last().map_or(0, |point| point.1);
        end_ms > TEST_FROM_MS + 5 * 24 * HOUR_MS as i64
    }

    fn times(&self) -> String {
        if self.has_test() { "from 19 Apr".into() } else { "all".into() }
    }
}

/// Whether the rows between two knots are on the line between them, to the two
/// published decimals.
fn is_straight(field: &Field, from: usize, to: usize) -> bool {
    let (Some(a), Some(b)) = (field.moisture[from], field.moisture[to]) else { return false };
    (from..=to).all(|row| {
        let line = a + (b - a) * (row - from) as f64 / (to - from) as f64;
        field.moisture[row].is_some_and(|pct| (pct - line).abs() <= 0.0101)
    })
}

/// Found onsets against runs of flags.
struct Waterings {
    /// Whether found, and the rise, %, of each run.
    runs: Vec<(bool, f64)>,
    /// Whether each onset found is near a run.
    onsets: Vec<bool>,
}

impl Waterings {
    fn judge(field: &Field, knots: &Knots) -> Self {
        let settings = Settings::default();
        let mut drying = Drying::default();
        let mut onsets_ms = Vec::new();
        for (_, at_ms, pct) in &knots.points {
            drying.moisture(&settings, *at_ms, *pct);
            if let Some(watering) = drying.waterings().back()
                && onsets_ms.last() != Some(&watering.onset.ms)
            {
                onsets_ms.push(watering.onset.ms);
            }
        }
        let tolerance_ms = (knots.interval_rows * STEP_MS as f64) as i64;
        let end = knots.points.last().map_or(0, |point| point.0);
        let near = |from_ms: i64, to_ms: i64, at_ms: i64| {
            (from_ms - tolerance_ms..=to_ms + tolerance_ms).contains(&at_ms)
        };
        let mut spans = Vec::new();
        let mut row = 0;
        while row <= end {
            let run = field.flag[row..=end].iter().take_while(|flag| **flag).count();
            if run > 0 {
                spans.push((row.saturating_sub(1), row + run - 1));
            }
            row += run + 1;
        }
        // The first knots say nothing of a rise that was under way before.
        let first = knots.points.first().map_or(0, |point| point.0);
        let is_known = |row: usize| field.moisture[row].is_some();
        spans.retain(|(from, to)| *from >= first && is_known(*from) && is_known(*to));
        let ms = |(from, to): (usize, usize)| (field.at_ms(from), field.at_ms(to));
        let runs = spans
            .iter()
            .map(|span| {
                let (from_ms, to_ms) = ms(*span);
                let found = onsets_ms.iter().any(|at_ms| near(from_ms, to_ms, *at_ms));
                let pct = |row: usize| field.moisture[row].unwrap_or_default();
                (found, (pct(span.1) - pct(span.0)).round())
            })
            .collect();
        let onsets = onsets_ms
            .iter()
            .map(|at_ms| spans.iter().any(|span| near(ms(*span).0, ms(*span).1, *at_ms)))
            .collect();
        Self { runs, onsets }
    }

    fn print(&self, number: usize, knots: &Knots) {
        let share =
            |part: usize, all: usize| format!("{:.2} ({part}/{all})", part as f64 / all as f64);
        let found = |least: f64| {
            let runs: Vec<_> = self.runs.iter().filter(|run| run.1 >= least).collect();
            share(runs.iter().filter(|run| run.0).count(), runs.len())
        };
        println!(
            "{number:<6} {:<6} {:<9} {:<5} {:<6} {:<10} {:<7} {}",
            knots.points.len(),
            format!("{:.2} h", knots.interval_rows * 5.0 / 60.0),
            self.runs.len(),
            self.onsets.len(),
            share(self.onsets.iter().filter(|near| **near).count(), self.onsets.len()),
            found(f64::MIN),
            found(4.0),
        );
    }
}

/// Errors of hours to the threshold.
#[derive(Default)]
struct Forecasts {
    critical_pct: f64,
    line_h: Vec<f64>,
    drying_h: Vec<f64>,
    covered: usize,
    /// Times at which it was not reached within the horizon, or at all.
    censored: usize,
    /// Times at which water came first.
    watered: usize,
    by_curve: usize,
}

impl Forecasts {
    fn judge(knots: &Knots) -> Self {
        let points = &knots.points;
        let is_test = |at_ms: i64| !knots.has_test() || at_ms >= TEST_FROM_MS;
        let mut known: Vec<f64> = points
            .iter()
            .filter(|point| !knots.has_test() || point.1 < TEST_FROM_MS)
            .map(|point| point.2)
            .collect();
        known.sort_by(f64::total_cmp);
        let critical_pct = known[known.len() / 5];
        let settings = Settings {
            critical_pct,
            target_pct: critical_pct + 20.0,
            horizon_h: HORIZON_H,
            ..Settings::default()
        };
        let mut found = Self { critical_pct, ..Self::default() };
        let mut drying = Drying::default();
        for (i, (_, at_ms, pct)) in points.iter().enumerate() {
            drying.moisture(&settings, *at_ms, *pct);
            // Two readings for the line, and a few for a rate.
            if i < 6 || !is_test(*at_ms) || *pct <= critical_pct {
                continue;
            }
            let Some(end) = points[i..].iter().position(|point| point.2 <= critical_pct) else {
                found.censored += 1;
                continue;
            };
            let after = &points[i..=i + end];
            if after.windows(2).any(|pair| pair[1].2 - pair[0].2 > settings.rise_min_pct) {
                found.watered += 1;
                continue;
            }
            let [.., a, b] = after else { continue };
            let share = (a.2 - critical_pct) / (a.2 - b.2);
            let truth = (a.1 - at_ms) as f64 / HOUR_MS + share * (b.1 - a.1) as f64 / HOUR_MS;
            if truth > HORIZON_H {
                found.censored += 1;
                continue;
            }
            let before = points[i - 1];
            let rate = (before.2 - pct) / ((at_ms - before.1) as f64 / HOUR_MS);
            let line =
                if rate > 0.0 { ((pct - critical_pct) / rate).min(HORIZON_H) } else { HORIZON_H };
            let forecast = drying.trend(&settings, *at_ms).and_then(|trend| trend.forecast);
            found.note(truth, line, forecast);
        }
        found
    }

    fn note(&mut self, truth: f64, line: f64, forecast: Option<Forecast>) {
        // What cannot say anything says "not within the horizon".
        let none = Forecast { hours: HORIZON_H, low: 0.0, high: HORIZON_H, basis: Basis::Rate };
        let Forecast { hours, low, high, basis } = forecast.unwrap_or(none);
        self.line_h.push((line - truth).abs());
        self.drying_h.push((hours - truth).abs());
        self.covered += usize::from(low <= truth && truth <= high);
        self.by_curve += usize::from(basis == Basis::Exponential);
    }

    fn add(&mut self, other: Self) {
        self.line_h.extend(other.line_h);
        self.drying_h.extend(other.drying_h);
        self.covered += other.covered;
        self.censored += other.censored;
        self.watered += other.watered;
        self.by_curve += other.by_curve;
    }

    fn print(&self, field: &str, times: &str) {
        let mean =
            |hours: &[f64]| format!("{:.2} h", hours.iter().sum::<f64>() / hours.len() as f64);
        let cases = self.line_h.len();
        println!(
            "{field:<6} {times:<12} {:<5} {cases:<6} {:<9} {:<8} {:<9} {:<13} {:.0} %  ({} by the curve)",
            self.critical_pct,
            self.censored,
            self.watered,
            mean(&self.line_h),
            mean(&self.drying_h),
            100.0 * self.covered as f64 / cases as f64,
            self.by_curve,
        );
    }
}
