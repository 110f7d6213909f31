//! Journal of predictions and their actual values as JSON lines, one file per day.
//!
//! The journal is not a topic of the log, because the embedded log belongs to the one process that
//! writes readings. Scores must also survive restarts of a trainer that runs in another process.
//! Lines are not synced to disk: a power failure may lose the last scores, and nothing else.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use tracing::warn;

use super::LoggedPrediction;

/// Longest valid line, bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Number of days that are read. Actual values take up to two days, and the latest thousand are
/// scored.
const DAYS_READ: i64 = 4;

#[derive(Debug)]
pub(super) struct PredictionJournal {
    dir: PathBuf,
    days: i64,
    /// Open file of a day.
    open: Option<(Date, File)>,
    is_failing: bool,
}

impl PredictionJournal {
    pub(super) fn new(dir: &Path, days: u32) -> Self {
        Self { dir: dir.to_owned(), days: i64::from(days), open: None, is_failing: false }
    }

    /// Reads the lines of the last days, in the order in which they were written. Unreadable lines
    /// are skipped.
    pub(super) fn read_recent(&self) -> Vec<LoggedPrediction> {
        let today = today_utc();
        let mut all = Vec::new();
        for back in (0..DAYS_READ).rev() {
            let Ok(day) = today.checked_sub(back.days()) else { continue };
            let path = self.day_path(day);
            let Ok(file) = File::open(&path) else { continue };
            let mut reader = BufReader::new(file);
            let (mut line, mut broken) = (Vec::new(), 0);
            loop {
                line.clear();
                match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => match serde_json::from_slice(&line) {
                        Ok(noted) => all.push(noted),
                        Err(_) => broken += 1,
                    },
                }
            }
            if broken > 0 {
                warn!(path = %path.display(), broken, "unreadable lines were skipped");
            }
        }
        all
    }

    /// Appends a line. A failure is logged once, until writing works again.
    pub(super) fn append_line(&mut self, noted: &LoggedPrediction) {
        let mut line = serde_json::to_vec(noted).expect("a prediction has a JSON form");
        line.push(b'\n');
        let written = self.open_today().and_then(|mut file| file.write_all(&line));
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.open = None;
                if !self.is_failing {
                    warn!(
                        dir = %self.dir.display(),
                        %error,
                        "predictions cannot be written to the journal"
                    );
                }
                self.is_failing = true;
            }
        }
    }

    fn open_today(&mut self) -> std::io::Result<&File> {
        let today = today_utc();
        if self.open.as_ref().is_none_or(|(day, _)| *day != today) {
            fs::create_dir_all(&self.dir)?;
            let file = File::options().create(true).append(true).open(self.day_path(today))?;
            self.remove_old_files(today);
            self.open = Some((today, file));
        }
        Ok(&self.open.as_ref().expect("it was opened").1)
    }

    fn day_path(&self, day: Date) -> PathBuf {
        self.dir.join(format!("{day}.jsonl"))
    }

    /// Removes files that are older than the number of days to keep.
    fn remove_old_files(&self, today: Date) {
        let Ok(oldest) = today.checked_sub(self.days.days()) else { return };
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let date_text = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            let day: Option<Date> = date_text.and_then(|text| text.parse().ok());
            if day.is_some_and(|day| day < oldest) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn today_utc() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}
