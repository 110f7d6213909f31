use crate::site::{Site, late_readings};

#[test]
fn what_is_old_moves_once_and_stays_queryable() {
    let site = Site::new("farm", None);
    let dir = site.dir();
    let readings = site.fill("bay-", 0);
    let before =
        site.query("SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings");
    assert_eq!(before[0]["n"], readings);
    let moved = &site.program(&["lake", "move"])[0];
    // The last day is day 19: from its start 16 days are left, and the day itself.
    let old = 2 * 144 * (20 - 17);
    assert_eq!(moved["rows"]["readings"], old, "{moved}");
    assert_eq!(moved["rows"]["recorded"], 2 * 144 * (20 - 3), "{moved}");
    let everything =
        "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings";
    assert_eq!(site.query(everything), before);
    assert_eq!(site.query("SELECT count(*) AS n FROM lake.readings")[0]["n"], old);
    assert_eq!(site.query("SELECT count(*) AS n FROM silver.readings")[0]["n"], readings - old);
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    assert_eq!(std::fs::read_dir(partition).unwrap().count(), 1);
    let one = site.query("SELECT * FROM lake.readings ORDER BY event, zone LIMIT 1");
    assert_eq!((&one[0]["site"], &one[0]["zone"]), (&"farm".into(), &"bay-a".into()), "{one:?}");
    assert_eq!((&one[0]["quality"], &one[0]["source"]), (&"ok".into(), &"backfill".into()));
    // Nothing is old any more.
    assert_eq!(site.program(&["lake", "move"])[0]["rows"]["readings"], 0);
    // KPIs outlive the readings.
    let hours = site.query("SELECT sum(readings) AS n FROM gold.hourly");
    assert_eq!(hours[0]["n"].to_string().parse::<f64>().unwrap(), readings as f64);
}

#[test]
fn what_a_crash_left_is_neither_read_nor_kept_and_small_files_are_put_together() {
    let site = Site::new("farm", None);
    let dir = site.dir();
    let mut readings = site.fill("bay-", 0);
    site.program(&["lake", "move"]);
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    let own = std::fs::read_dir(&partition).unwrap().next().unwrap().unwrap().path();
    // Renamed into place, and then the power went.
    std::fs::copy(&own, partition.join("99-0.parquet")).unwrap();
    std::fs::create_dir_all(dir.join("lake/.moving/99/date=2013-08-24")).unwrap();
    let count = |sql: &str| site.query(sql)[0]["n"].as_u64().unwrap();
    let all = "SELECT count(*) AS n FROM lake.all_readings";
    assert_eq!(count(all), readings);
    site.program(&["lake", "move"]);
    assert!(!partition.join("99-0.parquet").exists() && !dir.join("lake/.moving").exists());

    // More of the same day makes a second file of a partition: another zone's do not.
    readings += site.fill("hall-", 5);
    late_readings(dir);
    site.program(&["lake", "move"]);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 2);
    assert_eq!(count(all), readings + 10);
    assert_eq!(site.program(&["lake", "compact"])[0]["partitions"], 1);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 1);
    assert_eq!(count(all), readings + 10);
}
