//! The faults that the building really had.

use models::detect::minutes::{CHANNELS, Kind, Usual};
use rayon::prelude::*;

use crate::data::{Building, METRICS};

/// Series that are known to be faulty.
const KNOWN: [&str; 6] = [
    "419 temperature",
    "513 temperature",
    "656A temperature",
    "723 temperature",
    "668 light",
    "415 motion",
];
/// Worse series that are listed beside them.
const OTHERS: usize = 12;

/// The most unusual minute of a series.
struct Worst {
    name: String,
    score: f64,
    minute: usize,
    value: f64,
    kind: Kind,
    channel: &'static str,
    implausible: usize,
}

/// Scores all readings, the implausible ones too, against what is usual of the
/// same metric in the other half of the rooms: a room that has been faulty all
/// along is usual only to itself.
pub(crate) fn say(building: &Building) {
    let mut all: Vec<Worst> =
        METRICS.par_iter().flat_map(|(_, metric)| of_metric(building, metric)).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    println!("\nreal faults: the most unusual minute of each series (rank of {})", all.len());
    println!(
        "{:>4} {:18} {:>6} {:12} {:>9}  {:8} {:10} {:>11}",
        "rank", "series", "score", "when (UTC)", "value", "kind", "channel", "implausible"
    );
    for (rank, worst) in all.iter().enumerate() {
        if rank < OTHERS || KNOWN.contains(&worst.name.as_str()) {
            println!(
                "{:4} {:18} {:6.1} {:12} {:9.2}  {:8} {:10} {:11}{}",
                rank + 1,
                worst.name,
                worst.score,
                building.say(worst.minute),
                worst.value,
                worst.kind.name(),
                worst.channel,
                worst.implausible,
                if KNOWN.contains(&worst.name.as_str()) { "  known" } else { "" }
            );
        }
    }
}

fn of_metric(building: &Building, metric: &str) -> Vec<Worst> {
    let own: Vec<_> = building.series.iter().filter(|own| own.metric == metric).collect();
    let half = |odd: usize| -> Vec<f64> {
        let rooms = own.iter().skip(odd).step_by(2);
        rooms.flat_map(|series| series.raw.iter().copied()).collect()
    };
    let usual = [Usual::of(&half(1)), Usual::of(&half(0))];
    let worst = |(number, series): (usize, &&crate::data::Series)| {
        let rows = usual[number % 2].as_ref()?.rows(&series.raw);
        let each = rows.rows().into_iter().enumerate();
        let most = each.map(|(minute, row)| {
            // A building without any readings is no fault of this sensor.
            let seen = row.iter().enumerate().skip(1);
            let (channel, score) = seen.max_by(|a, b| a.1.total_cmp(b.1)).expect("seven channels");
            (minute, channel, *score)
        });
        let (minute, channel, score) = most.max_by(|a, b| a.2.total_cmp(&b.2))?;
        let mut parts = [0.0; CHANNELS.len()];
        parts[channel] = score;
        Some(Worst {
            name: series.name(),
            score,
            minute,
            value: series.raw[minute],
            kind: Kind::of(&parts),
            channel: CHANNELS[channel],
            implausible: series.implausible,
        })
    };
    own.iter().enumerate().filter_map(worst).collect()
}
