//! Checks the drying trend on four irrigated fields: `Train.csv` of the Wazihub
//! soil moisture challenge (Zindi, 2019).
//!
//! ```text
//! cargo run -p agronomy --example fields -- DIR/wazihub/Train.csv
//! ```
//!
//! The published 5-minute series is a straight line between whole-numbered
//! readings some 3 h apart, and its irrigation flag is on wherever it rises.
//! So the readings are recovered (the knots), nothing but knots at or before
//! t is used at t, and the flags serve as labels only.

mod field;
mod forecasts;
mod knots;
mod waterings;

use std::{env, path::Path};

use anyhow::{Context, Result};

use self::{forecasts::Forecasts, knots::Knots, waterings::Waterings};

fn main() -> Result<()> {
    let path = env::args().nth(1).context("which file? give the path of Train.csv")?;
    let fields = field::read(Path::new(&path))?;
    let knots: Vec<Knots> = fields.iter().map(Knots::recover).collect();

    println!("Waterings. A run of irrigation flags is found if an onset lies within one reading");
    println!("interval of it, and an onset is right if it lies so near to a run.");
    println!();
    print_row(Waterings::HEAD);
    print_row(["---"; Waterings::HEAD.len()]);
    for (number, (field, knots)) in (1..).zip(fields.iter().zip(&knots)) {
        print_row(Waterings::judge(field, knots).row(number, knots));
    }

    println!();
    println!("Hours to the 20th percentile of the field's knots, at times above it from which it");
    println!("was reached within 48 h without a watering.");
    println!();
    print_row(Forecasts::HEAD);
    print_row(["---"; Forecasts::HEAD.len()]);
    let mut all = Forecasts::default();
    for (number, knots) in (1..).zip(&knots) {
        let forecasts = Forecasts::judge(knots);
        print_row(forecasts.row(&format!("{number}"), knots.times()));
        all.add(forecasts);
    }
    print_row(all.row("all", ""));
    Ok(())
}

/// A row of a Markdown table.
fn print_row<const N: usize>(cells: [impl AsRef<str>; N]) {
    println!("| {} |", cells.each_ref().map(AsRef::as_ref).join(" | "));
}
