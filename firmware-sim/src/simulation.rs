use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use telemetry::ReportSource;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    PublishCounts, SimError, SimulatorConfig,
    connection::DeviceConnection,
    device::{MODELS, SimulatedDevice},
    fault::{FaultLabelFile, FaultyDevice},
    message::DeviceMessage,
    physics::SimulatedSite,
    publish_counts::PublishTally,
};

/// The progress of a phase.
#[derive(Clone, Copy, Debug)]
pub struct SimulationProgress {
    /// Counts of all phases so far.
    pub counts: PublishCounts,
    /// The simulated or recorded time, UTC ms.
    pub at_ms: i64,
    /// Share of the history that has been sent, 0 to 1.
    pub share: f64,
}

/// The simulated site and its devices, each with its own connection.
#[derive(Debug)]
pub struct Simulation {
    settings: SimulatorConfig,
    site: SimulatedSite,
    devices: Vec<(FaultyDevice, DeviceConnection)>,
    labels: FaultLabelFile,
    tally: Arc<PublishTally>,
    now_ms: i64,
}

impl Simulation {
    /// Sets up the site to begin `simulate.days` ago, and connects its devices. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`SimError`]: a setting, the label file, a connection. A broker that is not reachable yet
    /// is not an error: devices retry.
    pub fn start(settings: &SimulatorConfig) -> Result<Self, SimError> {
        settings.check_values()?;
        let simulate = &settings.simulate;
        let interval_ms = i64::from(simulate.interval_s) * 1000;
        let days_ms = (simulate.days * 86_400_000.0) as i64;
        let start_ms = (wall_clock_ms() - days_ms).div_euclid(interval_ms) * interval_ms;
        let tally = Arc::new(PublishTally::default());
        let mut devices = Vec::new();
        for (number, model) in (0_u64..).zip(MODELS) {
            let device = SimulatedDevice::start_at(model, number, simulate.seed, start_ms);
            let name = format!("{}/{}", device.zone, model.name);
            let connection = DeviceConnection::open(
                &settings.broker,
                &format!("{}-{}", settings.broker.client_prefix, name.replace('/', "-")),
                &format!("status/{name}"),
                simulate.offline_messages_max.max(1),
                tally.clone(),
            )?;
            devices.push((FaultyDevice::new(device), connection));
        }
        Ok(Self {
            site: SimulatedSite::new(simulate.seed, simulate.latitude_deg, start_ms),
            labels: FaultLabelFile::create_file(&simulate.labels)?,
            settings: settings.clone(),
            devices,
            tally,
            now_ms: start_ms,
        })
    }

    /// Returns the number of messages published and acknowledged so far.
    #[must_use]
    pub fn counts(&self) -> PublishCounts {
        self.tally.load_counts()
    }

    /// Publishes the history up to now, marked as a replay, as fast as it is acknowledged or as
    /// the settings allow. Waits for the last PUBACK.
    pub async fn publish_history(
        &mut self,
        observe: impl Fn(SimulationProgress),
        shutdown: &CancellationToken,
    ) -> PublishCounts {
        let simulate = self.settings.simulate.clone();
        let interval_ms = i64::from(simulate.interval_s) * 1000;
        let (start_ms, end_ms) = (self.now_ms, wall_clock_ms());
        let intervals_ahead = i64::from(simulate.skew_s_max / simulate.interval_s).max(1);
        let pace = RatePacer::start_at(simulate.rate_max, simulate.speed_max, start_ms);
        let mut number = 0;
        while self.now_ms + interval_ms <= end_ms && !shutdown.is_cancelled() {
            for i in 0..self.devices.len() {
                let messages = self.sample_device(i, interval_ms);
                self.send_messages(i, messages).await;
            }
            number += 1;
            self.now_ms += interval_ms;
            if number % intervals_ahead == 0 {
                // No device runs ahead: its earlier messages are acknowledged by then.
                self.settle_devices(shutdown).await;
            }
            if number % 30 == 0 {
                observe(self.current_progress(start_ms, end_ms));
            }
            pace.wait_until_due(self.tally.load_counts().messages_published, self.now_ms).await;
        }
        for i in 0..self.devices.len() {
            let rest = self.devices[i].0.take_held_back();
            self.send_messages(i, rest).await;
        }
        self.settle_devices(shutdown).await;
        observe(self.current_progress(start_ms, end_ms));
        self.counts()
    }

    /// Publishes in real time until `shutdown`, then waits up to `broker.drain_s` for the last
    /// PUBACKs.
    pub async fn publish_live(&mut self, shutdown: &CancellationToken) -> PublishCounts {
        let interval_s = self.settings.simulate.live_interval_s;
        let interval_ms = i64::from(interval_s) * 1000;
        let mut clock = interval(Duration::from_secs(u64::from(interval_s)));
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = shutdown.cancelled() => break,
            }
            self.now_ms = self.now_ms.max(wall_clock_ms() - interval_ms);
            for i in 0..self.devices.len() {
                for message in self.sample_device(i, interval_ms) {
                    self.devices[i].1.offer_live(message);
                }
            }
            self.now_ms += interval_ms;
        }
        let drain = Duration::from_secs_f64(self.settings.broker.drain_s);
        let drained = async {
            for (_, connection) in &self.devices {
                connection.wait_until_settled().await;
            }
        };
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!(
                drain_s = drain.as_secs_f64(),
                "not all messages were acknowledged in time"
            );
        }
        self.counts()
    }

    /// Disconnects every device.
    pub async fn close(self) -> PublishCounts {
        for (_, connection) in self.devices {
            connection.close().await;
        }
        self.tally.load_counts()
    }

    fn sample_device(&mut self, i: usize, interval_ms: i64) -> Vec<DeviceMessage> {
        let (device, _) = &mut self.devices[i];
        let at_ms = device.device.samples_at_ms(self.now_ms, interval_ms);
        self.site.advance_to(at_ms);
        let messages = device.sample_messages(
            &self.site,
            at_ms,
            interval_ms,
            &self.settings.faults,
            &mut self.labels,
        );
        if i + 1 == MODELS.len() {
            self.site.clear_motion();
        }
        messages
    }

    async fn send_messages(&self, i: usize, messages: Vec<DeviceMessage>) {
        for message in messages {
            let (payload, readings) =
                (message.encode_payload(ReportSource::Replay), message.reading_count());
            self.devices[i].1.send_recorded(message.topic, payload, readings).await;
        }
    }

    async fn settle_devices(&self, shutdown: &CancellationToken) {
        for (_, connection) in &self.devices {
            if !connection.is_settled() {
                tokio::select! {
                    () = connection.wait_until_settled() => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    }

    fn current_progress(&self, start_ms: i64, end_ms: i64) -> SimulationProgress {
        let share = (self.now_ms - start_ms) as f64 / (end_ms - start_ms).max(1) as f64;
        SimulationProgress {
            counts: self.counts(),
            at_ms: self.now_ms,
            share: share.clamp(0.0, 1.0),
        }
    }
}

/// Limits the history to a rate or a speed; 0 means no limit.
#[derive(Debug)]
pub(crate) struct RatePacer {
    rate_max: f64,
    speed_max: f64,
    start_ms: i64,
    started: tokio::time::Instant,
}

impl RatePacer {
    pub(crate) fn start_at(rate_max: f64, speed_max: f64, start_ms: i64) -> Self {
        Self { rate_max, speed_max, start_ms, started: tokio::time::Instant::now() }
    }

    pub(crate) async fn wait_until_due(&self, messages: u64, at_ms: i64) {
        let mut due_s = 0.0_f64;
        if self.rate_max > 0.0 {
            due_s = due_s.max(messages as f64 / self.rate_max);
        }
        if self.speed_max > 0.0 {
            due_s = due_s.max((at_ms - self.start_ms) as f64 / 1000.0 / self.speed_max);
        }
        if due_s > 0.0 {
            tokio::time::sleep_until(self.started + Duration::from_secs_f64(due_s)).await;
        }
    }
}

pub(crate) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
