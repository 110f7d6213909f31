//! Injected faults of a device, and the file that labels them.

use std::{fs::File, io::Write, path::Path};

use rand::RngExt;
use telemetry::ZoneId;

use crate::{
    SimError,
    config::FaultRates,
    device::SimulatedDevice,
    message::{DeviceMessage, MessageBody},
    physics::{SimulatedSite, draw_normal},
};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: f64 = 86_400_000.0;

/// A fault that lasts for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LastingFault {
    kind: LastingFaultKind,
    /// Index of the metric among the device's values.
    metric: usize,
    from_ms: i64,
    until_ms: i64,
    /// Size of a drift or noise as a share of the value; of a clock skew in ms.
    size: f64,
    /// The value that a stuck sensor repeats.
    held: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastingFaultKind {
    Stuck,
    Drift,
    Dropout,
    Noise,
    ClockSkew,
}

impl LastingFaultKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Drift => "drift",
            Self::Dropout => "dropout",
            Self::Noise => "noise",
            Self::ClockSkew => "clock_skew",
        }
    }
}

/// A device with its faults.
#[derive(Debug)]
pub(crate) struct FaultyDevice {
    pub(crate) device: SimulatedDevice,
    lasting: Option<LastingFault>,
    /// Messages that are sent later than they should be.
    held_back: Vec<(i64, DeviceMessage)>,
}

impl FaultyDevice {
    pub(crate) fn new(device: SimulatedDevice) -> Self {
        Self { device, lasting: None, held_back: Vec::new() }
    }

    /// Returns the messages at `at_ms`, one sampling interval after the last.
    pub(crate) fn sample_messages(
        &mut self,
        site: &SimulatedSite,
        at_ms: i64,
        interval_ms: i64,
        faults: &FaultRates,
        labels: &mut FaultLabelFile,
    ) -> Vec<DeviceMessage> {
        let mut values = self.device.measure_site(site, at_ms);
        let mut happens = |rate_per_day: f64| {
            self.device.rng.random::<f64>() < rate_per_day * interval_ms as f64 / DAY_MS
        };
        let begins = [
            (LastingFaultKind::Stuck, happens(faults.stuck)),
            (LastingFaultKind::Drift, happens(faults.drift)),
            (LastingFaultKind::Dropout, happens(faults.dropout)),
            (LastingFaultKind::Noise, happens(faults.noise)),
            (LastingFaultKind::ClockSkew, happens(faults.clock_skew)),
        ];
        let spike = happens(faults.spike);
        let [duplicate, reorder, late, malformed] =
            [faults.duplicate, faults.reorder, faults.late, faults.malformed].map(&mut happens);
        self.lasting = self.lasting.filter(|fault| at_ms < fault.until_ms);
        if let (None, Some((kind, _))) = (self.lasting, begins.iter().find(|(_, begins)| *begins)) {
            self.begin_fault(*kind, &values, at_ms, labels);
        }
        let mut skew_ms = 0;
        if let Some(fault) = self.lasting {
            let progress = (at_ms - fault.from_ms) as f64 / (fault.until_ms - fault.from_ms) as f64;
            let noise = draw_normal(&mut self.device.rng, 1.0);
            let value = &mut values[fault.metric].1;
            let scale = value.abs().max(1.0) * fault.size;
            match fault.kind {
                LastingFaultKind::Stuck => *value = fault.held,
                LastingFaultKind::Drift => *value += scale * progress,
                LastingFaultKind::Noise => *value = (*value + scale * noise).max(0.0),
                LastingFaultKind::ClockSkew => skew_ms = fault.size as i64,
                LastingFaultKind::Dropout => return self.take_due(at_ms),
            }
        }
        if spike {
            let (metric, value) = &mut values[0];
            *value = 4.0 * value.abs().max(5.0);
            labels.write_label(&self.device, metric, "spike", at_ms, at_ms);
        }
        let mut messages = self.device.build_messages(values, at_ms, skew_ms);
        let wait_ms = [(late, 2 + self.device.rng.random_range(0..18)), (reorder, 1)];
        if let Some((_, minutes)) = wait_ms.iter().find(|(happens, _)| *happens) {
            let kind = if late { "late" } else { "reorder" };
            labels.write_label(&self.device, "", kind, at_ms, at_ms + minutes * MINUTE_MS);
            let due_ms = at_ms + minutes * MINUTE_MS;
            self.held_back.extend(messages.drain(..).map(|message| (due_ms, message)));
        }
        if duplicate {
            labels.write_label(&self.device, "", "duplicate", at_ms, at_ms);
            messages.extend(messages.clone());
        }
        if malformed {
            labels.write_label(&self.device, "", "malformed", at_ms, at_ms);
            let topic =
                crate::message::device_topic(&self.device.zone, self.device.model.name, None);
            let body = MessageBody::Malformed(b"{\"temperature\": 21.4, \"hum".to_vec());
            messages.push(DeviceMessage { topic, sent_ms: at_ms, body });
        }
        messages.extend(self.take_due(at_ms));
        messages
    }

    fn begin_fault(
        &mut self,
        kind: LastingFaultKind,
        values: &[(&'static str, f64)],
        at_ms: i64,
        labels: &mut FaultLabelFile,
    ) {
        let rng = &mut self.device.rng;
        let metric = rng.random_range(0..values.len());
        let (minutes, size) = match kind {
            LastingFaultKind::Stuck => (rng.random_range(60..240), 0.0),
            LastingFaultKind::Drift => (rng.random_range(240..720), rng.random_range(0.1..0.3)),
            LastingFaultKind::Dropout => (rng.random_range(15..120), 0.0),
            LastingFaultKind::Noise => (rng.random_range(20..90), rng.random_range(0.05..0.2)),
            // Within the range that the feature store recognises as a clock fault.
            LastingFaultKind::ClockSkew => {
                (rng.random_range(30..180), rng.random_range(-120_000.0..-30_000.0))
            }
        };
        let until_ms = at_ms + minutes * MINUTE_MS;
        let held = values[metric].1;
        self.lasting = Some(LastingFault { kind, metric, from_ms: at_ms, until_ms, size, held });
        let affects_all_metrics =
            matches!(kind, LastingFaultKind::Dropout | LastingFaultKind::ClockSkew);
        let metric = if affects_all_metrics { "" } else { values[metric].0 };
        labels.write_label(&self.device, metric, kind.name(), at_ms, until_ms);
    }

    /// Takes the held-back messages that are due.
    fn take_due(&mut self, at_ms: i64) -> Vec<DeviceMessage> {
        let due = self.held_back.extract_if(.., |(due_ms, _)| *due_ms <= at_ms);
        due.map(|(due_ms, message)| DeviceMessage { sent_ms: due_ms, ..message }).collect()
    }

    /// Takes all messages that are still held back when the history ends.
    pub(crate) fn take_held_back(&mut self) -> Vec<DeviceMessage> {
        self.take_due(i64::MAX)
    }
}

/// The CSV of injected faults.
#[derive(Debug, Default)]
pub(crate) struct FaultLabelFile {
    file: Option<File>,
    pub(crate) written: u64,
}

impl FaultLabelFile {
    /// Creates the file, or replaces it. An empty path means no file.
    pub(crate) fn create_file(path: &Path) -> Result<Self, SimError> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let io = |source| SimError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = File::create(path).map_err(io)?;
        writeln!(file, "zone,device,metric,fault,from_ms,to_ms").map_err(io)?;
        Ok(Self { file: Some(file), written: 0 })
    }

    fn write_label(
        &mut self,
        device: &SimulatedDevice,
        metric: &str,
        fault: &str,
        from_ms: i64,
        to_ms: i64,
    ) {
        let zone: &ZoneId = &device.zone;
        let name = device.model.name;
        self.written += 1;
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{zone},{name},{metric},{fault},{from_ms},{to_ms}")
        {
            tracing::warn!(%error, "cannot label an injected fault");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SimulatorConfig, device::MODELS};

    const START_MS: i64 = 1_718_409_600_000;

    /// Runs a climate device for three days.
    fn days(faults: &FaultRates) -> (Vec<DeviceMessage>, u64) {
        let mut site = SimulatedSite::new(7, 36.8, START_MS);
        let mut device = FaultyDevice::new(SimulatedDevice::start_at(MODELS[6], 6, 7, START_MS));
        let mut labels = FaultLabelFile::default();
        let mut messages = Vec::new();
        for minute in 0..3 * 1440 {
            let at_ms = START_MS + minute * MINUTE_MS;
            site.advance_to(at_ms);
            messages.extend(device.sample_messages(&site, at_ms, MINUTE_MS, faults, &mut labels));
        }
        (messages, labels.written)
    }

    fn none() -> FaultRates {
        let mut faults = SimulatorConfig::default().faults;
        for rate in [
            &mut faults.spike,
            &mut faults.stuck,
            &mut faults.drift,
            &mut faults.dropout,
            &mut faults.noise,
            &mut faults.clock_skew,
            &mut faults.duplicate,
            &mut faults.reorder,
            &mut faults.late,
            &mut faults.malformed,
        ] {
            *rate = 0.0;
        }
        faults
    }

    #[test]
    fn each_kind_is_labelled_and_shows() {
        let (clean, labels) = days(&none());
        assert_eq!((clean.len(), labels), (3 * 1440, 0));
        let check = |set: &dyn Fn(&mut FaultRates)| {
            let mut faults = none();
            set(&mut faults);
            let (messages, labels) = days(&faults);
            assert!(labels > 3, "{faults:?}: {labels} labels");
            assert_ne!(messages, clean, "{faults:?}");
        };
        check(&|f| f.spike = 5.0);
        check(&|f| f.stuck = 5.0);
        check(&|f| f.drift = 5.0);
        check(&|f| f.dropout = 5.0);
        check(&|f| f.noise = 5.0);
        check(&|f| f.clock_skew = 5.0);
        check(&|f| f.duplicate = 5.0);
        check(&|f| f.reorder = 5.0);
        check(&|f| f.late = 5.0);
        check(&|f| f.malformed = 5.0);
    }

    #[test]
    fn the_same_seed_gives_the_same_messages() {
        let faults = SimulatorConfig::default().faults;
        assert_eq!(days(&faults), days(&faults));
    }
}
