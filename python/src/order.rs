use pyo3::prelude::*;

use crate::{
    errors::{InputError, OrderError},
    input::{FrameReadings, ZoneInputReadings},
};

/// Order in which the readings of a zone are ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestOrder {
    /// By arrival time; a frame in another order is refused.
    Refuse,
    /// Sorted by arrival time, event time, device, metric and value, so that the order of the
    /// frame does not matter.
    Sort,
    /// As the frame has them: the order of a log.
    Log,
}

impl IngestOrder {
    pub(crate) fn parse(name: &str) -> PyResult<Self> {
        match name {
            "refuse" => Ok(Self::Refuse),
            "sort" => Ok(Self::Sort),
            "log" => Ok(Self::Log),
            _ => Err(InputError::new_err(format!(
                "order=`{name}` is not known, expected `refuse`, `sort` or `log`"
            ))),
        }
    }

    /// Brings the readings of every zone into order, or refuses them.
    pub(crate) fn apply(self, frame: &mut FrameReadings) -> PyResult<()> {
        let (devices, metrics) = (&frame.devices.names, &frame.metrics.names);
        for zone in &mut frame.zones {
            match self {
                Self::Log => {}
                Self::Refuse => check_order(zone)?,
                Self::Sort => zone.readings.sort_by(|a, b| {
                    let times = (a.arrival_ms, a.event_ms).cmp(&(b.arrival_ms, b.event_ms));
                    let device = || devices[a.device as usize].cmp(&devices[b.device as usize]);
                    let metric = || metrics[a.metric as usize].cmp(&metrics[b.metric as usize]);
                    let sequence = || a.run.map(|run| run.1).cmp(&b.run.map(|run| run.1));
                    times
                        .then_with(device)
                        .then_with(metric)
                        .then_with(sequence)
                        .then_with(|| a.value.total_cmp(&b.value))
                }),
            }
        }
        Ok(())
    }
}

fn check_order(zone: &ZoneInputReadings) -> PyResult<()> {
    for pair in zone.readings.windows(2) {
        if pair[1].arrival_ms < pair[0].arrival_ms {
            return Err(OrderError::new_err(format!(
                "zone {}: row {} arrived at {} ms, {} ms before row {}; expected the order of \
                 arrival\n  hint: order=\"sort\" sorts, order=\"log\" takes rows as a log has them",
                zone.zone,
                pair[1].row,
                pair[1].arrival_ms,
                pair[0].arrival_ms - pair[1].arrival_ms,
                pair[0].row,
            )));
        }
    }
    Ok(())
}
