use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::channels::{CHANNELS, FaultChannels};
use crate::{ROWS_MIN, detect::RarityScale};

/// Normal behaviour of one sensor: the rarity of its minutes, channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormalProfile {
    /// Typical level, in the series' unit.
    typical: f64,
    /// Spread of the values, in the series' unit.
    spread: f64,
    channels: Vec<ChannelRarity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ChannelRarity {
    /// Scale of the channel. Values above it are compared by their ratios, smaller ones by their
    /// differences.
    scale: f64,
    rarity: RarityScale,
}

/// Number of channels that count minutes.
const RUNS: usize = 2;
const LEVEL: usize = CHANNELS.len() - 1;
/// Share of the spread below which changes do not matter.
const LITTLE: f64 = 0.01;
/// Number of standard deviations between the 5 % and the 95 % quantile of a normal distribution.
const NORMAL: f64 = 3.29;

impl NormalProfile {
    /// Learns from one value a minute, in the order of time, NaN where there is none. Most of them
    /// must be normal. `None` where the series never changes, or has fewer than 30 values.
    #[must_use]
    pub fn from_values(values: &[f64]) -> Option<Self> {
        let mut finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if finite.len() < ROWS_MIN {
            return None;
        }
        finite.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| finite[((finite.len() - 1) as f64 * q) as usize];
        // A sensor that hardly ever changes has only its extremes as a spread.
        let spread = [(quantile(0.95) - quantile(0.05)) / NORMAL, quantile(1.0) - quantile(0.0)]
            .into_iter()
            .find(|spread| *spread > 1e-9)?;
        let mut profile = Self { typical: quantile(0.5), spread, channels: Vec::new() };
        let seen = profile.channel_rows(values);
        for (number, column) in seen.columns().into_iter().enumerate() {
            let scale = if number < RUNS {
                1.0
            } else {
                let mut sizes: Vec<f64> =
                    column.iter().copied().filter(|v| v.is_finite()).collect();
                sizes.sort_unstable_by(f64::total_cmp);
                let large = sizes.get(sizes.len() * 9 / 10).copied().unwrap_or_default();
                large.max(LITTLE * spread)
            };
            let rarity =
                RarityScale::from_values(column.iter().map(|value| (value / scale).ln_1p()));
            profile.channels.push(ChannelRarity { scale, rarity });
        }
        Some(profile)
    }

    /// Spread of the values, in the series' unit; 90 % of them lie within a range of 3.29 spreads.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// Rarity of each minute, minutes × [`CHANNELS`], as −log₁₀ of the share of normal minutes that
    /// are at least as far out; 0 where a channel has no value.
    #[must_use]
    pub fn rarity_rows(&self, values: &[f64]) -> Array2<f64> {
        let mut seen = self.channel_rows(values);
        for (mut column, channel) in seen.columns_mut().into_iter().zip(&self.channels) {
            column
                .mapv_inplace(|value| channel.rarity.score_value((value / channel.scale).ln_1p()));
        }
        seen
    }

    fn channel_rows(&self, values: &[f64]) -> Array2<f64> {
        let mut channels = FaultChannels::default();
        let mut seen = Array2::zeros((values.len(), CHANNELS.len()));
        for (value, mut row) in values.iter().zip(seen.rows_mut()) {
            row.iter_mut().zip(channels.push(*value)).for_each(|(to, from)| *to = from);
            row[LEVEL] = (row[LEVEL] - self.typical).abs();
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Temperature of a room: a daily wave and noise in steps of 0.01.
    fn usual(minute: usize) -> f64 {
        let noise = ((minute * 7919) % 13) as f64 / 1000.0;
        ((20.0 + (minute as f64 / 230.0).sin() + noise) * 100.0).round() / 100.0
    }

    fn series(value: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..6000).map(value).collect()
    }

    #[test]
    fn each_fault_shows_in_its_channel() {
        let clean = series(usual);
        let profile = NormalProfile::from_values(&clean).unwrap();
        let check = |name: &str, fault: &dyn Fn(usize) -> f64, minute: usize| {
            let channel = CHANNELS.iter().position(|other| *other == name).unwrap();
            let got = profile.rarity_rows(&series(fault))[(minute, channel)];
            let most =
                profile.rarity_rows(&clean).column(channel).iter().fold(0.0_f64, |a, v| a.max(*v));
            assert!(got > most, "{name}: {got}, at most {most} without the fault");
        };
        check("silent", &|m| if m > 3990 { f64::NAN } else { usual(m) }, 4000);
        check("unchanged", &|m| if m > 3900 { usual(3900) } else { usual(m) }, 4000);
        check("step", &|m| usual(m) + if m == 4000 { 2.0 } else { 0.0 }, 4000);
        check("residual", &|m| usual(m) + if m == 4000 { 2.0 } else { 0.0 }, 4000);
        check("roughness", &|m| usual(m) + ((m % 3) * 2) as f64, 4000);
        check("drift", &|m| usual(m) + m.saturating_sub(3960) as f64 / 20.0, 4000);
        check("level", &|m| usual(m) + if m > 3000 { 9.0 } else { 0.0 }, 4000);
    }

    #[test]
    fn later_values_change_nothing() {
        let all = series(usual);
        let profile = NormalProfile::from_values(&all).unwrap();
        let whole = profile.rarity_rows(&all);
        assert_eq!(
            profile.rarity_rows(&all[..500]),
            whole.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..500))
        );
        assert!(whole.iter().all(|value| value.is_finite() && *value >= 0.0));
    }

    #[test]
    fn what_never_moves_has_nothing_usual() {
        assert_eq!(NormalProfile::from_values(&[3.0; 500]), None);
        assert_eq!(NormalProfile::from_values(&[f64::NAN; 500]), None);
        let rests: Vec<f64> = (0..500).map(|m| f64::from(u8::from(m == 250))).collect();
        assert_eq!(NormalProfile::from_values(&rests).unwrap().spread(), 1.0);
    }
}
