//! Real faults of the building.

use microclimate_models::detect::sensor_faults::{CHANNELS, FaultKind, NormalProfile};
use ndarray::Array2;
use rayon::prelude::*;

use crate::data::{BuildingRecording, BuildingSeries, METRICS};

/// Series that are known to be faulty.
const KNOWN: [&str; 6] = [
    "419 temperature",
    "513 temperature",
    "656A temperature",
    "723 temperature",
    "668 light",
    "415 motion",
];
/// Number of other high-ranked series that are listed too.
const OTHERS: usize = 12;

/// The most unusual minute of a series.
struct WorstMinute {
    name: String,
    score: f64,
    minute: usize,
    value: f64,
    kind: FaultKind,
    channel: &'static str,
    implausible: usize,
}

/// Number of rooms that a series is compared with.
const ROOMS: usize = 5;

/// Scores all readings, including implausible ones. The rarity of a minute is the median of its
/// rarities by the profiles of five other rooms' sensors of the same metric, because a sensor that
/// was always faulty is normal by its own profile.
pub(crate) fn print_real_faults(building: &BuildingRecording) {
    let mut all: Vec<WorstMinute> =
        METRICS.par_iter().flat_map(|(_, metric)| worst_of_metric(building, metric)).collect();
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
                building.format_minute(worst.minute),
                worst.value,
                worst.kind.name(),
                worst.channel,
                worst.implausible,
                if KNOWN.contains(&worst.name.as_str()) { "  known" } else { "" }
            );
        }
    }
}

fn worst_of_metric(building: &BuildingRecording, metric: &str) -> Vec<WorstMinute> {
    let same_metric: Vec<_> =
        building.series.iter().filter(|series| series.metric == metric).collect();
    let usual: Vec<Option<NormalProfile>> =
        same_metric.iter().map(|series| NormalProfile::from_values(&series.raw)).collect();
    let worst = |(number, series): (usize, &&BuildingSeries)| {
        let others = (1..same_metric.len())
            .filter_map(|step| usual[(number + step) % same_metric.len()].as_ref());
        let rarities: Vec<Array2<f64>> =
            others.take(ROOMS).map(|usual| usual.rarity_rows(&series.raw)).collect();
        let middle = |minute: usize, channel: usize| {
            let mut each: Vec<f64> = rarities.iter().map(|rows| rows[(minute, channel)]).collect();
            each.sort_unstable_by(f64::total_cmp);
            each[each.len() / 2]
        };
        let minutes = (0..series.raw.len()).filter(|minute| series.raw[*minute].is_finite());
        let each = minutes.flat_map(|m| (0..CHANNELS.len()).map(move |c| (m, c)));
        let each = each.map(|(minute, channel)| (minute, channel, middle(minute, channel)));
        // The first of equally unusual minutes.
        let (minute, channel, score) = each.rev().max_by(|a, b| a.2.total_cmp(&b.2))?;
        let mut parts = [0.0; CHANNELS.len()];
        parts[channel] = score;
        Some(WorstMinute {
            name: series.name(),
            score,
            minute,
            value: series.raw[minute],
            kind: FaultKind::from_channels(&parts),
            channel: CHANNELS[channel],
            implausible: series.implausible,
        })
    };
    same_metric.par_iter().enumerate().filter_map(worst).collect()
}
