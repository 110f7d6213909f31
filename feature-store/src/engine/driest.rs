use std::{collections::BTreeMap, ops::Range};

use agronomy::drying::{Drying, Settings, Trend};
use telemetry::SmolStr;

use super::{clock::positions, readings::Readings};

const DAY_MS: i64 = 86_400_000;
/// A trend knows the readings since midnight UTC this many days before.
const DAYS: i64 = 7;
/// Readings that a trend may need, ms.
pub(crate) const KEPT_MS: i64 = (DAYS + 1) * DAY_MS;

/// The features of the zone's driest soil: chosen from [`Trend::NAMES`].
#[derive(Debug)]
pub(super) struct Driest {
    columns: Range<usize>,
    /// Places in [`Trend::values`].
    chosen: Vec<usize>,
}

impl Driest {
    pub(super) fn new(wanted: &[SmolStr], names: &mut Vec<SmolStr>) -> Self {
        let chosen = positions(wanted, &Trend::NAMES);
        let start = names.len();
        names
            .extend(chosen.iter().map(|at| SmolStr::from(format!("drying_{}", Trend::NAMES[*at]))));
        Self { columns: start..names.len(), chosen }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// Writes a trend into a row.
    pub(super) fn fill(&self, trend: &Trend, row: &mut [f64]) {
        let values = trend.values();
        for (column, at) in row[self.columns.clone()].iter_mut().zip(&self.chosen) {
            *column = values[*at].unwrap_or(f64::NAN);
        }
    }
}

/// The drying trends of a zone's soil probes as of a time: a function of the
/// readings since midnight UTC seven days before, so that neither the order of
/// arrival nor a restart can show.
#[derive(Clone, Debug)]
pub(super) struct Soil {
    /// By the device's number.
    probes: BTreeMap<u16, Drying>,
    since_ms: i64,
    fed_ms: i64,
}

impl Default for Soil {
    fn default() -> Self {
        Self { probes: BTreeMap::new(), since_ms: i64::MIN, fed_ms: i64::MIN }
    }
}

impl Soil {
    /// A reading of that time came or went.
    pub(super) fn changed(&mut self, event_ms: i64) {
        if event_ms <= self.fed_ms {
            *self = Self::default();
        }
    }

    /// Takes in what is there up to a time.
    pub(super) fn advance(
        &mut self,
        at_ms: i64,
        moisture: &Readings,
        irrigation: Option<&Readings>,
        settings: &Settings,
    ) {
        let since_ms = at_ms.div_euclid(DAY_MS) * DAY_MS - DAYS * DAY_MS;
        if since_ms != self.since_ms || at_ms < self.fed_ms {
            *self = Self { probes: BTreeMap::new(), since_ms, fed_ms: since_ms };
        }
        let from_ms = self.fed_ms;
        let mut signals = irrigation
            .into_iter()
            .flat_map(|signals| signals.between(from_ms, at_ms))
            .map(|point| (point.event_ms(), point.value > 0.0))
            .peekable();
        for point in moisture.between(from_ms, at_ms) {
            let event_ms = point.event_ms();
            while let Some((ms, on)) = signals.next_if(|(ms, _)| *ms <= event_ms) {
                self.probes.values_mut().for_each(|probe| {
                    probe.irrigation(settings, ms, on);
                });
            }
            // A probe begins with its first reading: signals before it are not its own.
            let probe = self.probes.entry(point.device()).or_default();
            probe.moisture(settings, event_ms, point.value);
        }
        for (ms, on) in signals {
            self.probes.values_mut().for_each(|probe| {
                probe.irrigation(settings, ms, on);
            });
        }
        self.fed_ms = at_ms;
    }

    /// Every probe's trend, by device number.
    pub(super) fn trends(
        &self,
        at_ms: i64,
        settings: &Settings,
    ) -> impl Iterator<Item = (u16, Trend)> {
        self.probes
            .iter()
            .filter_map(move |(device, probe)| Some((*device, probe.trend(settings, at_ms)?)))
    }

    /// The trend of the probe that will be too dry first; among those that will
    /// not, of the one that says least.
    pub(super) fn driest(
        &self,
        at_ms: i64,
        settings: &Settings,
        names: &[SmolStr],
    ) -> Option<Trend> {
        let urgency = |trend: &Trend| trend.forecast.map_or(f64::INFINITY, |f| f.hours);
        let all = self.trends(at_ms, settings);
        let first = all.min_by(|(a, left), (b, right)| {
            let sooner = urgency(left).total_cmp(&urgency(right));
            let drier = sooner.then(left.last.pct.total_cmp(&right.last.pct));
            drier.then_with(|| names.get(usize::from(*a)).cmp(&names.get(usize::from(*b))))
        });
        first.map(|(_, trend)| trend)
    }
}
