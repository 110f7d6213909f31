//! Checks the drying trend on four irrigated fields: `Train.csv` of the Wazihub soil moisture
//! challenge (Zindi, 2019).
//!
//! ```text
//! cargo run -p microclimate-agronomy --example fields -- DIR/wazihub/Train.csv
//! ```
//!
//! The published 5-minute series is a straight line between whole-numbered readings about 3 h
//! apart. Its irrigation flag is on wherever the series rises. So the example recovers the
//! measured readings (the knots). At a time t it uses only knots at or before t. The flags serve
//! as labels only.

mod field;
mod forecasts;
mod interpolation;
mod waterings;

use std::{env, path::Path};

use anyhow::{Context, Result};

use self::{forecasts::ForecastErrors, interpolation::FieldKnots, waterings::WateringScores};

fn main() -> Result<()> {
    let path = env::args().nth(1).context("which file? give the path of Train.csv")?;
    let fields = field::read_fields(Path::new(&path))?;
    let knots: Vec<FieldKnots> = fields.iter().map(FieldKnots::recover_from).collect();

    println!("Waterings. A run of irrigation flags is found if an onset lies within one reading");
    println!("interval of it, and an onset is right if it lies so near to a run.");
    println!();
    print_row(WateringScores::HEAD);
    print_row(["---"; WateringScores::HEAD.len()]);
    for (number, (field, knots)) in (1..).zip(fields.iter().zip(&knots)) {
        print_row(WateringScores::from_field(field, knots).table_row(number, knots));
    }

    println!();
    println!("Hours to the 20th percentile of the field's knots, at times above it from which it");
    println!("was reached within 48 h without a watering.");
    println!();
    print_row(ForecastErrors::HEAD);
    print_row(["---"; ForecastErrors::HEAD.len()]);
    let mut all = ForecastErrors::default();
    for (number, knots) in (1..).zip(&knots) {
        let forecasts = ForecastErrors::from_knots(knots);
        print_row(forecasts.table_row(&format!("{number}"), knots.times_label()));
        all.add_cases(forecasts);
    }
    print_row(all.table_row("all", ""));
    Ok(())
}

/// A row of a Markdown table.
fn print_row<const N: usize>(cells: [impl AsRef<str>; N]) {
    println!("| {} |", cells.each_ref().map(AsRef::as_ref).join(" | "));
}
