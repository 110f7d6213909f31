use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use serde_json::Value;

use crate::{
    s3_server::S3Server,
    site::{LakeSite, insert_late_readings},
};

const ALL_READINGS_SQL: &str =
    "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings";

/// One server for all cases, one after the other, because its start takes a while.
#[test]
fn a_lake_in_a_bucket_behaves_as_one_in_a_folder() {
    let Some(s3) = S3Server::start() else { return };
    // A prefix of this run alone, in a bucket that may outlive it.
    let prefix = |name: &str| format!("lake-{}/{name}", std::process::id());
    moves_once_and_stays_queryable(&s3, &prefix("whole"));
    killed_anywhere_it_loses_and_doubles_nothing(&s3, &prefix("killed"));
    takes_no_more_room_than_it_may(&s3, &prefix("room"));
}

/// Checks that the bucket has exactly the files that the DuckDB file lists; returns their number.
#[track_caller]
fn check_listed(site: &LakeSite, s3: &S3Server, prefix: &str) -> usize {
    let of_lake = |key: &String| key.ends_with(".parquet");
    let there: BTreeSet<String> = ["records", "recorded", "readings", "features"]
        .iter()
        .flat_map(|table| s3.open_bucket_folder(prefix).keys(table).unwrap())
        .filter(of_lake)
        .collect();
    let listed = site.run_and_parse(&["lake", "ls"]);
    let listed: BTreeSet<String> =
        listed.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(there, listed);
    there.len()
}

fn query_count(site: &LakeSite, sql: &str) -> u64 {
    site.query_lake(sql)[0]["n"].as_u64().unwrap()
}

fn moves_once_and_stays_queryable(s3: &S3Server, prefix: &str) {
    let site = LakeSite::new("farm", Some((s3, prefix)));
    let readings = site.backfill_twenty_days("bay-", 0);
    let before = site.query_lake(ALL_READINGS_SQL);
    assert_eq!(before[0]["n"], readings);
    let moved = &site.run_and_parse(&["lake", "move"])[0];
    let old = 2 * 144 * (20 - 17);
    assert_eq!(moved["rows"]["readings"], old, "{moved}");
    check_listed(&site, s3, prefix);
    assert_eq!(site.query_lake(ALL_READINGS_SQL), before);
    assert_eq!(query_count(&site, "SELECT count(*) AS n FROM silver.readings"), readings - old);
    // The cache can be deleted.
    let cache = site.dir().join("cache");
    let recorded = cache.join("recorded");
    assert!(cache.join("readings").exists() && !recorded.exists(), "only what was named");
    fs::remove_dir_all(&cache).unwrap();
    assert_eq!(site.query_lake(ALL_READINGS_SQL), before);
    fs::remove_dir_all(&cache).unwrap();
    let part = ["--zone", "farm/bay-a", "--from", "2013-08-25", "--to", "2013-08-25"];
    let sql = "SELECT count(*) AS n FROM lake.readings";
    let found = site.run_and_parse(&[&["lake", "query", sql], &part[..]].concat());
    assert_eq!(found[0]["n"], 144);
    let day = cache.join("readings");
    assert_eq!(fs::read_dir(day).unwrap().count(), 1, "no more is fetched");

    insert_late_readings(site.dir());
    site.run_and_parse(&["lake", "move"]);
    let files = check_listed(&site, s3, prefix);
    assert_eq!(site.run_and_parse(&["lake", "compact"])[0]["partitions"], 1);
    assert_eq!(check_listed(&site, s3, prefix), files - 1);
    let all = "SELECT count(*) AS n FROM lake.all_readings";
    assert_eq!(query_count(&site, all), readings + 10);

    // Without a mark, another file's lake would look like the remains of a crash.
    let other = LakeSite::new("field", Some((s3, prefix)));
    other.backfill_twenty_days("bay-", 0);
    let refusal = other.run_refused(&["lake", "move"]);
    assert!(refusal.contains("another feature store") && refusal.contains("hint:"), "{refusal}");
    check_listed(&site, s3, prefix);
    // Without the store nothing is lost, and the message says where the rows are.
    let away =
        LakeSite::new("away", Some((s3, prefix))).with_setting("s3.endpoint=http://127.0.0.1:9");
    away.backfill_twenty_days("bay-", 0);
    let refusal = away.run_refused(&["lake", "move"]);
    assert!(refusal.contains("s3://") && refusal.contains("hint:"), "{refusal}");
    assert_eq!(query_count(&away, "SELECT count(*) AS n FROM silver.readings"), readings);
}

fn killed_anywhere_it_loses_and_doubles_nothing(s3: &S3Server, prefix: &str) {
    let site = LakeSite::new("farm", Some((s3, prefix)));
    let mut readings = site.backfill_twenty_days("bay-", 0);
    let bucket = s3.open_bucket_folder(prefix);
    let mut kills = 0;
    for round in 0..12_u64 {
        if round == 6 {
            // More to move, and partitions to compact.
            readings += site.backfill_twenty_days("hall-", 5);
            insert_late_readings(site.dir());
            readings += 10;
        }
        let verb = if round % 4 == 3 { "compact" } else { "move" };
        let mut moving = site.command(&["lake", verb]);
        let mut moving = moving.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + (round * 7919) % 400));
        if moving.try_wait().unwrap().is_none() {
            moving.kill().unwrap();
            kills += 1;
        }
        moving.wait().unwrap();
        let found = site.query_lake("SELECT count(*) AS n FROM lake.all_readings");
        assert_eq!(found[0]["n"], readings, "round {round}");
    }
    println!("{kills} kills of a move or a compaction");
    // An object that a move left before its transaction was committed.
    let left = "readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature/99-0.parquet";
    assert!(bucket.create(left, b"not listed").unwrap());
    let not_ours = "readings/date=2013-08-24/notes.parquet";
    assert!(bucket.create(not_ours, b"of somebody else").unwrap());
    site.run_and_parse(&["lake", "move"]);
    site.run_and_parse(&["lake", "compact"]);
    let keys = bucket.keys("readings").unwrap();
    assert!(!keys.iter().any(|key| key == left) && keys.iter().any(|key| key == not_ours));
    bucket.remove(not_ours).unwrap();
    // The files that the last compaction merged have gone too.
    site.run_and_parse(&["lake", "move"]);
    check_listed(&site, s3, prefix);
    assert_eq!(query_count(&site, "SELECT count(*) AS n FROM lake.all_readings"), readings);
}

fn takes_no_more_room_than_it_may(s3: &S3Server, prefix: &str) {
    let site = LakeSite::new("farm", Some((s3, prefix)));
    site.backfill_twenty_days("bay-", 0);
    site.run_and_parse(&["lake", "move"]);
    let listed = site.run_and_parse(&["lake", "ls"]);
    let bytes = |file: &Value| file["bytes"].as_u64().unwrap();
    let of = |table: &str| {
        let files = listed.iter().filter(|file| file["path"].as_str().unwrap().starts_with(table));
        files.map(bytes).sum::<u64>()
    };
    let (readings, recorded) = (of("readings/"), of("recorded/"));
    assert!(recorded > readings, "{recorded} {readings}");
    let site = site.with_setting(&format!("lake.cache_bytes_max={readings}"));
    let refusal = site.run_refused(&["lake", "query", "SELECT count(*) AS n FROM lake.recorded"]);
    assert!(refusal.contains("bytes of the lake") && refusal.contains("--zone"), "{refusal}");
    assert_eq!(query_count(&site, "SELECT count(*) AS n FROM lake.readings"), 2 * 144 * 3);
    // Other files take the room of those that were used before.
    let day = ["--from", "2013-09-01", "--to", "2013-09-01"];
    let sql = "SELECT count(*) AS n FROM lake.recorded";
    let found = site.run_and_parse(&[&["lake", "query", sql], &day[..]].concat());
    assert_eq!(found[0]["n"], 2 * 144);
    let mut kept = 0;
    let mut folders = vec![site.dir().join("cache")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => kept += entry.metadata().unwrap().len(),
            }
        }
    }
    assert!(kept <= readings, "{kept} bytes in a cache of {readings}");
}
