use std::{
    path::Path,
    process::{Command, Output},
};

use duckdb::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::s3_server::S3Server;

/// A DuckDB file with its lake.
pub(crate) struct LakeSite {
    dir: TempDir,
    name: &'static str,
    set: Vec<String>,
}

impl LakeSite {
    /// Creates a site with a lake beside the file, or below a prefix of the store's bucket.
    pub(crate) fn new(name: &'static str, bucket: Option<(&S3Server, &str)>) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |file: &str| dir.path().join(file).display().to_string();
        let mut set = vec![
            format!("store.path={}", at("microclimate.duckdb")),
            "lake.bronze_days=2".to_owned(),
            "lake.silver_days=16".to_owned(),
            "lake.files_max=1".to_owned(),
        ];
        match bucket {
            None => set.push(format!("lake.path={}", at("lake"))),
            Some((s3, prefix)) => set.extend([
                format!("lake.path=s3://{}/{prefix}", s3.bucket),
                format!("lake.cache_dir={}", at("cache")),
                format!("s3.endpoint={}", s3.endpoint),
                "s3.access_key=key".to_owned(),
                "s3.secret_key=secret".to_owned(),
            ]),
        }
        Self { dir, name, set }
    }

    pub(crate) fn with_setting(mut self, set: &str) -> Self {
        self.set.push(set.to_owned());
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feature-store"));
        command.args(args).args(self.set.iter().flat_map(|set| ["--set", set]));
        command
    }

    fn run_program(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program; returns the JSON values that it printed.
    #[track_caller]
    pub(crate) fn run_and_parse(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.run_program(args);
        let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{args:?}: {stdout}{}", String::from_utf8_lossy(&ran.stderr));
        let values = serde_json::Deserializer::from_str(&stdout).into_iter();
        values.collect::<Result<_, _>>().unwrap()
    }

    /// Runs the program, which must fail; returns its message.
    #[track_caller]
    pub(crate) fn run_refused(&self, args: &[&str]) -> String {
        let ran = self.run_program(args);
        assert!(!ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stdout));
        String::from_utf8_lossy(&ran.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn query_lake(&self, sql: &str) -> Vec<Value> {
        self.run_and_parse(&["lake", "query", sql])
    }

    /// Loads twenty days of two zones with a reading each ten minutes; returns their number.
    pub(crate) fn backfill_twenty_days(&self, name: &str, offset_s: i64) -> u64 {
        let mut text = "time,zone,device,metric,value\n".to_owned();
        let mut readings = 0;
        for i in 0..20 * 144_i64 {
            let time_s = 1_377_302_400 + i * 600 + offset_s;
            for zone in ["a", "b"] {
                text += &format!("{time_s},{name}{zone},d,temperature,{}\n", 20 + i % 7);
                readings += 1;
            }
        }
        let csv = self.dir().join(format!("{name}.csv"));
        std::fs::write(&csv, text).unwrap();
        let layout = ["--layout", "csv", "--site", self.name];
        self.run_and_parse(&[&["backfill", csv.to_str().unwrap()], &layout[..]].concat());
        readings
    }
}

/// Loads ten more readings of the first day of `bay-a`: a second file of a partition.
pub(crate) fn insert_late_readings(dir: &Path) {
    let connection = Connection::open(dir.join("microclimate.duckdb")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO silver.data SELECT partition, \"offset\" + 1000000, item, series, boot, seq, source,
                 TIMESTAMP '2013-08-24 00:00:01', arrival, value, quality
             FROM silver.data d JOIN silver.series s ON d.series = s.id WHERE s.zone = 'bay-a' LIMIT 10",
        )
        .unwrap();
}
