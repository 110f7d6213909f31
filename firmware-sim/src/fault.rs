//! What goes wrong with a device, and the file that says so.

use std::{fs::File, io::Write, path::Path};

use rand::RngExt;
use telemetry::ZoneId;

use crate::{
    SimError,
    device::Device,
    message::{Body, Message},
    physics::{Site, normal},
    settings::Faults,
};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: f64 = 86_400_000.0;

/// A fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lasting {
    kind: Kind,
    /// The metric's place among the device's values.
    metric: usize,
    from_ms: i64,
    until_ms: i64,
    /// Of a drift or noise, as a share of the value's size; of a skew, in ms.
    size: f64,
    /// What a stuck sensor goes on saying.
    held: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stuck,
    Drift,
    Dropout,
    Noise,
    ClockSkew,
}

impl Kind {
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
pub(crate) struct Faulty {
    pub(crate) device: Device,
    lasting: Option<Lasting>,
    /// Messages that leave later than they should.
    held_back: Vec<(i64, Message)>,
}

impl Faulty {
    pub(crate) fn new(device: Device) -> Self {
        Self { device, lasting: None, held_back: Vec::new() }
    }

    /// What the device sends at `at_ms`, one sampling interval after the last.
    pub(crate) fn sample(
        &mut self,
        site: &Site,
        at_ms: i64,
        interval_ms: i64,
        faults: &Faults,
        labels: &mut Labels,
    ) -> Vec<Message> {
        let mut values = self.device.measure(site, at_ms);
        let mut happens = |rate_per_day: f64| {
            self.device.rng.random::<f64>() < rate_per_day * interval_ms as f64 / DAY_MS
        };
        let begins = [
            (Kind::Stuck, happens(faults.stuck)),
            (Kind::Drift, happens(faults.drift)),
            (Kind::Dropout, happens(faults.dropout)),
            (Kind::Noise, happens(faults.noise)),
            (Kind::ClockSkew, happens(faults.clock_skew)),
        ];
        let spike = happens(faults.spike);
        let [duplicate, reorder, late, malformed] =
            [faults.duplicate, faults.reorder, faults.late, faults.malformed].map(&mut happens);
        self.lasting = self.lasting.filter(|fault| at_ms < fault.until_ms);
        if let (None, Some((kind, _))) = (self.lasting, begins.iter().find(|(_, begins)| *begins)) {
            self.begin(*kind, &values, at_ms, labels);
        }
        let mut skew_ms = 0;
        if let Some(fault) = self.lasting {
            let progress = (at_ms - fault.from_ms) as f64 / (fault.until_ms - fault.from_ms) as f64;
            let noise = normal(&mut self.device.rng, 1.0);
            let value = &mut values[fault.metric].1;
            let scale = value.abs().max(1.0) * fault.size;
            match fault.kind {
                Kind::Stuck => *value = fault.held,
                Kind::Drift => *value += scale * progress,
                Kind::Noise => *value = (*value + scale * noise).max(0.0),
                Kind::ClockSkew => skew_ms = fault.size as i64,
                Kind::Dropout => return self.due(at_ms),
            }
        }
        if spike {
            let (metric, value) = &mut values[0];
            *value = 4.0 * value.abs().max(5.0);
            labels.write(&self.device, metric, "spike", at_ms, at_ms);
        }
        let mut messages = self.device.messages(values, at_ms, skew_ms);
        let wait_ms = [(late, 2 + self.device.rng.random_range(0..18)), (reorder, 1)];
        if let Some((_, minutes)) = wait_ms.iter().find(|(happens, _)| *happens) {
            let kind = if late { "late" } else { "reorder" };
            labels.write(&self.device, "", kind, at_ms, at_ms + minutes * MINUTE_MS);
            let due_ms = at_ms + minutes * MINUTE_MS;
            self.held_back.extend(messages.drain(..).map(|message| (due_ms, message)));
        }
        if duplicate {
            labels.write(&self.device, "", "duplicate", at_ms, at_ms);
            messages.extend(messages.clone());
        }
        if malformed {
            labels.write(&self.device, "", "malformed", at_ms, at_ms);
            let topic = crate::message::topic(&self.device.zone, self.device.model.name, None);
            let body = Body::Malformed(b"{\"temperature\": 21.4, \"hum".to_vec());
            messages.push(Message { topic, sent_ms: at_ms, body });
        }
        messages.extend(self.due(at_ms));
        messages
    }

    fn begin(
        &mut self,
        kind: Kind,
        values: &[(&'static str, f64)],
        at_ms: i64,
        labels: &mut Labels,
    ) {
        let rng = &mut self.device.rng;
        let metric = rng.random_range(0..values.len());
        let (minutes, size) = match kind {
            Kind::Stuck => (rng.random_range(60..240), 0.0),
            Kind::Drift => (rng.random_range(240..720), rng.random_range(0.1..0.3)),
            Kind::Dropout => (rng.random_range(15..120), 0.0),
            Kind::Noise => (rng.random_range(20..90), rng.random_range(0.05..0.2)),
            // Within what the feature store takes for a clock's fault.
            Kind::ClockSkew => (rng.random_range(30..180), rng.random_range(-120_000.0..-30_000.0)),
        };
        let until_ms = at_ms + minutes * MINUTE_MS;
        let held = values[metric].1;
        self.lasting = Some(Lasting { kind, metric, from_ms: at_ms, until_ms, size, held });
        let of_all = matches!(kind, Kind::Dropout | Kind::ClockSkew);
        let metric = if of_all { "" } else { values[metric].0 };
        labels.write(&self.device, metric, kind.name(), at_ms, until_ms);
    }

    /// Held-back messages whose time has come.
    fn due(&mut self, at_ms: i64) -> Vec<Message> {
        let due = self.held_back.extract_if(.., |(due_ms, _)| *due_ms <= at_ms);
        due.map(|(due_ms, message)| Message { sent_ms: due_ms, ..message }).collect()
    }

    /// What is still held back when the history ends.
    pub(crate) fn rest(&mut self) -> Vec<Message> {
        self.due(i64::MAX)
    }
}

/// The CSV of injected faults.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    file: Option<File>,
    pub(crate) written: u64,
}

impl Labels {
    /// Starts the file anew; an empty path is for no file.
    pub(crate) fn create(path: &Path) -> Result<Self, SimError> {
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

    fn write(&mut self, device: &Device, metric: &str, fault: &str, from_ms: i64, to_ms: i64) {
        let zone: &ZoneId = &device.zone;
        let name = device.model.name;
        self.written += 1;
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{zone},{name},{metric},{fault},{from_ms},{to_ms}")
        {
            tracing::warn!(%error, "a fault is injected that the labels do not name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Settings, device::MODELS};

    const START_MS: i64 = 1_718_409_600_000;

    /// Three days of a climate device.
    fn days(faults: &Faults) -> (Vec<Message>, u64) {
        let mut site = Site::new(7, 36.8, START_MS);
        let mut device = Faulty::new(Device::start(MODELS[6], 6, 7, START_MS));
        let mut labels = Labels::default();
        let mut messages = Vec::new();
        for minute in 0..3 * 1440 {
            let at_ms = START_MS + minute * MINUTE_MS;
            site.advance(at_ms);
            messages.extend(device.sample(&site, at_ms, MINUTE_MS, faults, &mut labels));
        }
        (messages, labels.written)
    }

    fn none() -> Faults {
        let mut faults = Settings::default().faults;
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
        let check = |set: &dyn Fn(&mut Faults)| {
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
        let faults = Settings::default().faults;
        assert_eq!(days(&faults), days(&faults));
    }
}
