use std::{collections::BTreeMap, path::Path};

use crate::site::{LakeSite, insert_late_readings};

/// Returns every Parquet file below a folder, with its bytes.
fn parquet_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let below = path.strip_prefix(folder).unwrap().display().to_string();
                files.insert(below, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn remove_duckdb_file(dir: &Path) {
    std::fs::remove_file(dir.join("microclimate.duckdb")).unwrap();
    let _ = std::fs::remove_file(dir.join("microclimate.duckdb.wal"));
}

#[test]
fn a_new_file_beside_a_lake_changes_nothing_in_it_until_it_is_adopted() {
    let site = LakeSite::new("farm", None);
    let dir = site.dir();
    site.backfill_twenty_days("bay-", 0);
    site.run_and_parse(&["lake", "move"]);
    let lake = dir.join("lake");
    let files = parquet_files(&lake);
    let moved = site.query_lake("SELECT count(*) AS n, sum(value) AS s FROM lake.readings");
    assert!(files.len() > 30, "{} files", files.len());
    // The DuckDB file is lost, and a new one has other readings.
    remove_duckdb_file(dir);
    let others = site.backfill_twenty_days("hall-", 5);
    for verb in ["move", "compact"] {
        // If there is nothing to compact, nothing is written and nothing is refused.
        let ran = site.command(&["lake", verb]).output().unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(
            verb == "compact" || stderr.contains("feature-store lake adopt"),
            "{verb}: {stderr}"
        );
        assert_eq!(parquet_files(&lake), files, "{verb}");
    }
    assert!(
        site.run_and_parse(&["lake", "orphans"]).iter().all(|orphan| orphan["state"] == "left")
    );
    assert_eq!(site.run_and_parse(&["lake", "orphans"]).len(), files.len());

    let adopted = &site.run_and_parse(&["lake", "adopt"])[0];
    // Recorded values have ids of the lost file, so their files are in quarantine.
    let recorded = files.keys().filter(|path| path.starts_with("recorded/")).count();
    assert_eq!(adopted["adopted"].as_u64().unwrap() as usize, files.len() - recorded, "{adopted}");
    assert_eq!(adopted["aside"].as_object().unwrap().len(), recorded, "{adopted}");
    let all = "SELECT count(*) AS n, sum(value) AS s FROM lake.readings";
    assert_eq!(site.query_lake(all), moved);
    let count =
        site.query_lake("SELECT count(*) AS n FROM lake.all_readings")[0]["n"].as_u64().unwrap();
    assert_eq!(count, moved[0]["n"].as_u64().unwrap() + others);
    site.run_and_parse(&["lake", "move"]);
    let count =
        site.query_lake("SELECT count(*) AS n FROM lake.all_readings")[0]["n"].as_u64().unwrap();
    assert_eq!(count, moved[0]["n"].as_u64().unwrap() + others);
    let now = parquet_files(&lake);
    for (path, bytes) in &files {
        let aside = now.get(&format!(".orphans/{path}"));
        assert!(now.get(path).or(aside) == Some(bytes), "{path} is missing");
    }
}

#[test]
fn a_second_file_is_refused_where_a_first_has_its_lake_and_the_first_goes_on() {
    let first = LakeSite::new("farm", None);
    first.backfill_twenty_days("bay-", 0);
    first.run_and_parse(&["lake", "move"]);
    let lake = first.dir().join("lake");
    let files = parquet_files(&lake);
    let second = LakeSite::new("farm", None).with_setting(&format!("lake.path={}", lake.display()));
    let readings = second.backfill_twenty_days("bay-", 0);
    let refusal = second.run_refused(&["lake", "move"]);
    assert!(refusal.contains("another feature store") && refusal.contains("hint:"), "{refusal}");
    assert_eq!(parquet_files(&lake), files);
    let count = |sql: &str| second.query_lake(sql)[0]["n"].as_u64().unwrap();
    assert_eq!(count("SELECT count(*) AS n FROM silver.readings"), readings);
    insert_late_readings(first.dir());
    first.run_and_parse(&["lake", "move"]);
    assert_eq!(parquet_files(&lake).len(), files.len() + 1);
    // The second store does not adopt files whose rows are in its DuckDB file.
    let adopted = &second.run_and_parse(&["lake", "adopt"])[0];
    assert_eq!(adopted["adopted"], 1, "only the late readings are new: {adopted}");
    assert_eq!(count("SELECT count(*) AS n FROM lake.all_readings"), readings + 10);
    assert!(first.run_refused(&["lake", "move"]).contains("another feature store"));
}

#[test]
fn a_copy_of_the_file_from_before_a_move_loses_nothing() {
    let site = LakeSite::new("farm", None);
    let dir = site.dir();
    let readings = site.backfill_twenty_days("bay-", 0);
    let copy = dir.join("copy.duckdb");
    std::fs::copy(dir.join("microclimate.duckdb"), &copy).unwrap();
    site.run_and_parse(&["lake", "move"]);
    let files = parquet_files(&dir.join("lake"));
    remove_duckdb_file(dir);
    std::fs::copy(&copy, dir.join("microclimate.duckdb")).unwrap();
    // The copy has no mark yet and lists no file, so it refuses.
    assert!(site.run_refused(&["lake", "move"]).contains("lake adopt"));
    site.run_and_parse(&["lake", "adopt"]);
    site.run_and_parse(&["lake", "move"]);
    let count = |sql: &str| site.query_lake(sql)[0]["n"].as_u64().unwrap();
    assert_eq!(count("SELECT count(*) AS n FROM lake.all_readings"), readings);
    let now = parquet_files(&dir.join("lake"));
    for (path, bytes) in &files {
        assert_eq!(now.get(&format!(".orphans/{path}")), Some(bytes), "{path}");
    }
}

#[test]
fn what_is_old_moves_once_and_stays_queryable() {
    let site = LakeSite::new("farm", None);
    let dir = site.dir();
    let readings = site.backfill_twenty_days("bay-", 0);
    let before = site.query_lake(
        "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings",
    );
    assert_eq!(before[0]["n"], readings);
    let moved = &site.run_and_parse(&["lake", "move"])[0];
    // The last day is day 19: 16 days before its start stay, and the day itself.
    let old = 2 * 144 * (20 - 17);
    assert_eq!(moved["rows"]["readings"], old, "{moved}");
    assert_eq!(moved["rows"]["recorded"], 2 * 144 * (20 - 3), "{moved}");
    let everything =
        "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings";
    assert_eq!(site.query_lake(everything), before);
    assert_eq!(site.query_lake("SELECT count(*) AS n FROM lake.readings")[0]["n"], old);
    assert_eq!(
        site.query_lake("SELECT count(*) AS n FROM silver.readings")[0]["n"],
        readings - old
    );
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    assert_eq!(std::fs::read_dir(partition).unwrap().count(), 1);
    let one = site.query_lake("SELECT * FROM lake.readings ORDER BY event, zone LIMIT 1");
    assert_eq!((&one[0]["site"], &one[0]["zone"]), (&"farm".into(), &"bay-a".into()), "{one:?}");
    assert_eq!((&one[0]["quality"], &one[0]["source"]), (&"ok".into(), &"backfill".into()));
    // No rows are old any more.
    assert_eq!(site.run_and_parse(&["lake", "move"])[0]["rows"]["readings"], 0);
    // KPIs outlive the readings.
    let hours = site.query_lake("SELECT sum(readings) AS n FROM gold.hourly");
    assert_eq!(hours[0]["n"].to_string().parse::<f64>().unwrap(), readings as f64);
}

#[test]
fn what_a_crash_left_is_not_read_and_kept_aside_and_small_files_are_put_together() {
    let site = LakeSite::new("farm", None);
    let dir = site.dir();
    let mut readings = site.backfill_twenty_days("bay-", 0);
    site.run_and_parse(&["lake", "move"]);
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    let file = std::fs::read_dir(&partition).unwrap().next().unwrap().unwrap().path();
    // Renamed into place, and then the power failed.
    std::fs::copy(&file, partition.join("99-0.parquet")).unwrap();
    std::fs::create_dir_all(dir.join("lake/.moving/99/date=2013-08-24")).unwrap();
    let count = |sql: &str| site.query_lake(sql)[0]["n"].as_u64().unwrap();
    let all = "SELECT count(*) AS n FROM lake.all_readings";
    assert_eq!(count(all), readings);
    site.run_and_parse(&["lake", "move"]);
    assert!(!partition.join("99-0.parquet").exists() && !dir.join("lake/.moving").exists());
    let path = "readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature/99-0.parquet";
    let aside = dir.join("lake/.orphans").join(path);
    assert_eq!(std::fs::metadata(&aside).unwrap().len(), file.metadata().unwrap().len());
    let orphans = site.run_and_parse(&["lake", "orphans"]);
    let expect = serde_json::json!({ "path": format!(".orphans/{path}"), "state": "aside" });
    assert_eq!(orphans, [expect]);

    // More of the same day makes a second file of one zone's partition, not of the other's.
    readings += site.backfill_twenty_days("hall-", 5);
    insert_late_readings(dir);
    site.run_and_parse(&["lake", "move"]);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 2);
    assert_eq!(count(all), readings + 10);
    assert_eq!(site.run_and_parse(&["lake", "compact"])[0]["partitions"], 1);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 1);
    assert_eq!(count(all), readings + 10);
}
