use serde::{Deserialize, Serialize};

use super::MoisturePoint;

/// Holds a jump back until the next reading decides: a spike is dropped, a watering stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SpikeFilter {
    held: Option<MoisturePoint>,
    /// Number of readings that were dropped.
    pub(super) spikes: u64,
}

impl SpikeFilter {
    /// Returns the readings that count now, in order, given the latest one that counts. A jump is a
    /// step of more than `jump_pct` within `confirm_ms`.
    pub(super) fn filter_reading(
        &mut self,
        last: Option<MoisturePoint>,
        point: MoisturePoint,
        jump_pct: f64,
        confirm_ms: i64,
    ) -> [Option<MoisturePoint>; 2] {
        let Some(last) = last else { return [None, Some(point)] };
        let before = match self.held.take() {
            Some(held) if (point.pct - held.pct).abs() <= (point.pct - last.pct).abs() => {
                return [Some(held), Some(point)];
            }
            Some(held) if point.ms.saturating_sub(held.ms) > confirm_ms => Some(held),
            Some(_) => {
                self.spikes += 1;
                None
            }
            None => None,
        };
        let from = before.unwrap_or(last);
        let jumps = (point.pct - from.pct).abs() > jump_pct;
        if jumps && point.ms.saturating_sub(from.ms) <= confirm_ms {
            self.held = Some(point);
            return [before, None];
        }
        [before, Some(point)]
    }

    /// Whether a reading waits for the next one.
    pub(super) const fn is_holding(&self) -> bool {
        self.held.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes readings of (minute, value) and expects the values that count, with a jump of 5 within
    /// 30 min.
    fn check(readings: &[(i64, f64)], believed: &[f64], spikes: u64) {
        let (mut gate, mut out) = (SpikeFilter::default(), Vec::<MoisturePoint>::new());
        for (minute, pct) in readings {
            let point = MoisturePoint { ms: minute * 60_000, pct: *pct };
            let more = gate.filter_reading(out.last().copied(), point, 5.0, 1_800_000);
            out.extend(more.into_iter().flatten());
        }
        assert_eq!(out.iter().map(|p| p.pct).collect::<Vec<_>>(), believed, "{readings:?}");
        assert_eq!(gate.spikes, spikes, "{readings:?}");
    }

    #[test]
    fn a_spike_goes_and_a_step_stays() {
        check(&[(0, 20.0), (1, 21.0), (2, 20.5)], &[20.0, 21.0, 20.5], 0);
        check(&[(0, 20.0), (1, 90.0), (2, 20.5)], &[20.0, 20.5], 1);
        check(&[(0, 20.0), (1, 0.0), (2, 20.5)], &[20.0, 20.5], 1);
        check(&[(0, 20.0), (1, 40.0), (2, 42.0)], &[20.0, 40.0, 42.0], 0);
        check(&[(0, 20.0), (1, 40.0)], &[20.0], 0);
    }

    #[test]
    fn what_is_far_apart_is_believed_at_once() {
        check(&[(0, 20.0), (180, 58.0), (360, 57.0)], &[20.0, 58.0, 57.0], 0);
        check(&[(0, 20.0), (1, 58.0), (180, 21.0)], &[20.0, 58.0, 21.0], 0);
    }

    #[test]
    fn of_two_jumps_the_first_goes_unless_the_second_follows_it() {
        check(&[(0, 20.0), (1, 90.0), (2, 10.0), (3, 20.0)], &[20.0, 20.0], 2);
        check(&[(0, 20.0), (1, 40.0), (2, 60.0), (3, 60.0)], &[20.0, 40.0, 60.0, 60.0], 0);
    }
}
