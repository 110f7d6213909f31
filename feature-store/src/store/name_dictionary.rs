use std::collections::HashMap;

use duckdb::Connection;
use telemetry::{SmolStr, ZoneId};

use feature_engine::sql::SqlReading;

use crate::StoreError;

/// Ids for names in `silver.data`, and the partition of each zone. Grows with the number of
/// devices.
#[derive(Debug, Default)]
pub(crate) struct NameDictionary {
    zones: HashMap<ZoneId, ZoneNames>,
    series_next: u32,
    boots_next: u32,
    /// Entries that the file does not have yet.
    new: NewNameEntries,
}

#[derive(Debug)]
struct ZoneNames {
    partition: i32,
    devices: HashMap<SmolStr, DeviceNames>,
}

#[derive(Debug, Default)]
struct DeviceNames {
    /// A device has few metrics, so a linear search is faster than hashing.
    metrics: Vec<(SmolStr, u32)>,
    /// The newest boot. A device that returns to an earlier boot gets a new id for it.
    boot: Option<(SmolStr, u32)>,
}

/// Names to be added to the file.
#[derive(Debug, Default)]
pub(crate) struct NewNameEntries {
    /// Id, zone, device and metric of each series.
    pub(super) series: Vec<StoredSeries>,
    /// Id and name of each boot.
    pub(super) boots: Vec<(u32, SmolStr)>,
}

/// One metric of one device.
#[derive(Clone, Debug)]
pub(super) struct StoredSeries {
    pub(super) id: u32,
    pub(super) zone: ZoneId,
    pub(super) device: SmolStr,
    pub(super) metric: SmolStr,
}

impl StoredSeries {
    /// Returns one of its readings as SQL expressions see it.
    pub(super) fn sql_reading(&self, event_ms: i64, value: f64) -> SqlReading<'_> {
        let Self { zone, device, metric, .. } = self;
        SqlReading { value, metric, site: &zone.site, zone: &zone.zone, device, event_ms }
    }
}

/// Assigns ids to the names of one device.
pub(super) struct DeviceInterner<'a> {
    device: &'a mut DeviceNames,
    name: &'a SmolStr,
    zone: &'a ZoneId,
    /// Index of the next expected metric: reports name their metrics in a fixed order.
    metric_next: usize,
    series_next: &'a mut u32,
    boots_next: &'a mut u32,
    new: &'a mut NewNameEntries,
}

impl NameDictionary {
    /// Reads the names in the file.
    pub(super) fn read_names(connection: &Connection) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let mut statement = connection.prepare("SELECT site, zone, partition FROM meta.zones")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let zone = ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            names.zones.insert(zone, ZoneNames { partition: row.get(2)?, devices: HashMap::new() });
        }
        for StoredSeries { id, zone, device, metric } in read_series(connection)? {
            names.series_next = names.series_next.max(id + 1);
            if let Some(zone) = names.zones.get_mut(&zone) {
                zone.devices.entry(device).or_default().metrics.push((metric, id));
            }
        }
        names.boots_next = connection.query_row(
            "SELECT coalesce(max(id) + 1, 0)::UINTEGER FROM silver.boots",
            [],
            |row| row.get(0),
        )?;
        Ok(names)
    }

    /// Returns the interner of a device whose record came from `partition`.
    pub(super) fn device_interner<'a>(
        &'a mut self,
        partition: i32,
        zone: &'a ZoneId,
        device: &'a SmolStr,
    ) -> DeviceInterner<'a> {
        let unknown = || ZoneNames { partition, devices: HashMap::new() };
        let known = self.zones.entry(zone.clone()).or_insert_with(unknown);
        // Files have a partition below 0; a zone from files may appear in any partition of the
        // log.
        if partition >= 0 && known.partition < 0 {
            known.partition = partition;
        } else if partition >= 0 && known.partition != partition {
            // Only the order between its records is lost.
            tracing::warn!(%zone, partition, before = known.partition, "a zone moved to another partition; do not add partitions to a topic that is in use");
            known.partition = partition;
        }
        DeviceInterner {
            device: known.devices.entry(device.clone()).or_default(),
            name: device,
            zone,
            metric_next: 0,
            series_next: &mut self.series_next,
            boots_next: &mut self.boots_next,
            new: &mut self.new,
        }
    }

    /// Returns the partition of a zone, once a record has named it.
    pub(crate) fn partition(&self, zone: &ZoneId) -> Option<i32> {
        self.zones.get(zone).map(|zone| zone.partition)
    }

    /// Iterates over the zones of a partition.
    pub(crate) fn zones_of_partition(&self, partition: i32) -> impl Iterator<Item = &ZoneId> {
        self.zones.iter().filter(move |(_, zone)| zone.partition == partition).map(|(id, _)| id)
    }

    pub(super) fn take_new_names(&mut self) -> NewNameEntries {
        std::mem::take(&mut self.new)
    }
}

impl DeviceInterner<'_> {
    pub(super) fn intern_series(&mut self, metric: &SmolStr) -> u32 {
        let known = &self.device.metrics;
        let is_it = |(name, _): &&(SmolStr, u32)| name == metric;
        let probable = known.get(self.metric_next).filter(is_it);
        if let Some((_, id)) = probable.or_else(|| known.iter().find(is_it)) {
            self.metric_next += 1;
            return *id;
        }
        let id = *self.series_next;
        *self.series_next += 1;
        self.device.metrics.push((metric.clone(), id));
        let (zone, device, metric) = (self.zone.clone(), self.name.clone(), metric.clone());
        self.new.series.push(StoredSeries { id, zone, device, metric });
        id
    }

    pub(super) fn intern_boot(&mut self, boot: &SmolStr) -> u32 {
        if let Some((known, id)) = &self.device.boot
            && known == boot
        {
            return *id;
        }
        let id = *self.boots_next;
        *self.boots_next += 1;
        self.device.boot = Some((boot.clone(), id));
        self.new.boots.push((id, boot.clone()));
        id
    }
}

/// Reads every series in the file.
pub(super) fn read_series(connection: &Connection) -> Result<Vec<StoredSeries>, StoreError> {
    let mut statement =
        connection.prepare("SELECT id, site, zone, device, metric FROM silver.series")?;
    let series = statement.query_map([], |row| {
        let text = |i| row.get::<_, String>(i).map(SmolStr::from);
        Ok(StoredSeries {
            id: row.get(0)?,
            zone: ZoneId::new(text(1)?, text(2)?),
            device: text(3)?,
            metric: text(4)?,
        })
    })?;
    Ok(series.collect::<duckdb::Result<_>>()?)
}
