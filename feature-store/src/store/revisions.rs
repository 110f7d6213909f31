use duckdb::Connection;

use crate::StoreError;

/// Deletes at most `rows_max` feature rows that later corrections have superseded and that are
/// more than `days` behind their zone's newest reading. Returns their number. The row as known,
/// revision 0, and the newest correction always stay.
pub(crate) fn drop_superseded_revisions(
    connection: &mut Connection,
    days: u32,
    rows_max: usize,
) -> Result<usize, StoreError> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE superseded AS
         SELECT r.site, r.zone, r.time, r.revision FROM (
             SELECT site, zone, time, revision,
                    max(revision) OVER (PARTITION BY site, zone, time) AS newest
             FROM features.rows WHERE revision > 0
         ) r JOIN meta.zones z ON r.site = z.site AND r.zone = z.zone
         WHERE r.revision < r.newest AND r.time < z.newest - INTERVAL {days} DAY
         ORDER BY r.time, r.site, r.zone, r.revision LIMIT {rows_max}"
    ))?;
    let deleted = transaction.execute(
        "DELETE FROM features.rows r USING superseded s
         WHERE r.site = s.site AND r.zone = s.zone AND r.time = s.time AND r.revision = s.revision",
        [],
    )?;
    transaction.commit()?;
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FeatureStoreSettings, store};

    #[test]
    fn only_what_is_superseded_and_old_goes_and_no_more_at_once_than_is_allowed() {
        let dir = tempfile::TempDir::new().unwrap();
        let FeatureStoreSettings { store: mut settings, lake, .. } =
            FeatureStoreSettings::default();
        settings.path = dir.path().join("x.duckdb");
        let mut connection = store::open_database(&settings, &lake).unwrap();
        connection
            .execute_batch(
                "INSERT INTO meta.zones (site, zone, partition, newest, progress) VALUES
                     ('s', 'a', 0, '2025-01-20', '{}'), ('s', 'b', 0, '2025-01-02', '{}');
                 INSERT INTO features.rows
                 SELECT 's', zone, TIMESTAMP '2025-01-01' + INTERVAL (day) DAY, revision, 'h'
                 FROM (VALUES ('a'), ('b')) z(zone), range(15) d(day), range(5) r(revision)
                 WHERE (zone = 'a' AND revision <> 2) OR (zone = 'b' AND day = 0);
                 -- Once corrected: nothing is superseded.
                 DELETE FROM features.rows WHERE zone = 'a' AND time = '2025-01-03' AND revision > 1;",
            )
            .unwrap();
        let left = |connection: &Connection, zone: &str| -> Vec<(i64, String)> {
            let sql = format!(
                "SELECT epoch_ms(time) // 86400000, string_agg(revision, ',' ORDER BY revision)
                 FROM features.rows WHERE zone = '{zone}' GROUP BY ALL ORDER BY ALL"
            );
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let other = left(&connection, "b");
        let mut deleted = Vec::new();
        loop {
            let count = drop_superseded_revisions(&mut connection, 7, 10).unwrap();
            deleted.push(count);
            if count == 0 {
                break;
            }
        }
        // Twelve days are before the 13th; one of them was corrected once. Revisions 1 and 3 are
        // deleted.
        assert_eq!(deleted, [10, 10, 2, 0]);
        let first = 20_089;
        for (day, revisions) in left(&connection, "a") {
            let expect = match day - first {
                2 => "0,1",
                0..12 => "0,4",
                _ => "0,1,3,4",
            };
            assert_eq!(revisions, expect, "day {}", day - first);
        }
        assert_eq!(left(&connection, "b"), other, "the zone's own newest reading counts");
    }
}
