use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::{ZoneId, time::parse_bound_ms};

use crate::{FeatureStoreSettings, StoreError, set_back};

/// Arguments of `feature-store set-back`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    feature-store set-back farm/bay-1\n  \
    feature-store set-back farm/bay-1 --after 2026-11-29T13:00:00Z\n\n\
    Readings after that time are flagged `future` and stay in the file. Readings that these kept \
    out, above all those that were flagged `late` because of them, are flagged again. The zone's \
    feature rows and KPIs are recomputed.")]
pub struct SetBackCommand {
    /// The zone, as in farm/bay-1.
    zone: ZoneId,
    /// The time after which its readings cannot have been measured [default: now].
    #[arg(long, value_name = "TIME", value_parser = parse_bound_ms)]
    after: Option<i64>,
}

impl SetBackCommand {
    /// Sets the zone back and prints the result as JSON.
    ///
    /// # Errors
    /// Fails as [`set_back`] does.
    pub fn run(self, settings: &FeatureStoreSettings) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let after_ms = self.after.unwrap_or(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let result = set_back(settings, &self.zone, after_ms)?;
        let (deleted, written) = result.rows;
        let answer = serde_json::json!({
            "zone": self.zone.to_string(),
            "readings_flagged_future": result.future,
            "readings_admitted": result.admitted,
            "feature_rows_deleted": deleted,
            "feature_rows_written": written,
        });
        println!("{}", serde_json::to_string_pretty(&answer).expect("numbers and names"));
        Ok(())
    }
}
