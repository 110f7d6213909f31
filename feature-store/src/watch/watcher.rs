use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use telemetry::MetricTable;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    fingerprint::{self, Fingerprint},
    folder_scanner::{FileVersion, FolderScanner},
    reject_list,
    watched_file::{self, WatchedFile},
};
use crate::{StoreError, settings};

/// Interval between two scans of the folder.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Sends new files until `shutdown`. A folder or file that cannot be read is logged and tried
/// again.
pub(crate) async fn poll_watched_folder(
    settings: settings::FolderWatchSettings,
    metrics: Arc<MetricTable>,
    taken: Vec<FileVersion>,
    files: mpsc::Sender<WatchedFile>,
    shutdown: CancellationToken,
) {
    let settle = Duration::from_secs(u64::from(settings.settle_s));
    let mut scan = FolderScanner::new(&settings.dir, settle, taken);
    loop {
        let (settings, metrics) = (settings.clone(), metrics.clone());
        // Files are read on a thread that may block, one scan at a time.
        let round = tokio::task::spawn_blocking(move || {
            let read = read_next_file(&mut scan, &settings, &metrics);
            (scan, read)
        });
        let Ok((back, read)) = round.await else { return };
        scan = back;
        if let Some(file) = read
            && files.send(file).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SCAN_INTERVAL) => {}
        }
    }
}

/// Reads at most one new file, so that few are in memory.
fn read_next_file(
    scan: &mut FolderScanner,
    settings: &settings::FolderWatchSettings,
    metrics: &Arc<MetricTable>,
) -> Option<WatchedFile> {
    let folder = &settings.dir;
    let ready = match scan.files_at_rest(Instant::now()) {
        Ok(ready) => ready,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the watched folder cannot be read");
            return None;
        }
    };
    for path in ready {
        let mut read = || -> Result<Option<WatchedFile>, StoreError> {
            let failed = |source| StoreError::Folder { path: path.clone(), source };
            let content = std::fs::File::open(&path).map_err(failed)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_text = watched_file::layout_of(&path).is_some();
            let earlier = if is_text { scan.earlier_versions(&name) } else { Vec::new() };
            let Fingerprint { bytes, sha256, lines_taken } =
                fingerprint::fingerprint_content(content, &earlier).map_err(failed)?;
            let mark = FileVersion { path: name.clone(), bytes, sha256 };
            if scan.is_ingested(&mark) {
                scan.mark_read(&path, mark);
                return Ok(None);
            }
            let (file, rejected) =
                watched_file::read_watched_file(&path, mark, lines_taken, settings, metrics)?;
            reject_list::write_reject_list(folder, &name, &rejected).map_err(failed)?;
            scan.mark_read(&path, file.mark.clone());
            Ok(Some(file))
        };
        match read() {
            Ok(None) => {}
            Ok(Some(file)) => return Some(file),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "file not ingested; will retry");
            }
        }
    }
    None
}
