use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use telemetry::MetricTable;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    file::{self, File},
    fingerprint::{self, Fingerprint},
    rejects,
    scan::{Mark, Scan},
};
use crate::{StoreError, settings};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Hands new files over until `shutdown`. A folder or a file that cannot be
/// read is said, and tried again.
pub(crate) async fn run(
    settings: settings::Watch,
    metrics: Arc<MetricTable>,
    taken: Vec<Mark>,
    files: mpsc::Sender<File>,
    shutdown: CancellationToken,
) {
    let settle = Duration::from_secs(u64::from(settings.settle_s));
    let mut scan = Scan::new(&settings.dir, settle, taken);
    loop {
        let (settings, metrics) = (settings.clone(), metrics.clone());
        // Files are read on a thread that may block, one round at a time.
        let round = tokio::task::spawn_blocking(move || {
            let read = look(&mut scan, &settings, &metrics);
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
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The new files that there are now: one at most, so that not many are held.
fn look(scan: &mut Scan, settings: &settings::Watch, metrics: &Arc<MetricTable>) -> Option<File> {
    let folder = &settings.dir;
    let ready = match scan.at_rest(Instant::now()) {
        Ok(ready) => ready,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the watched folder cannot be read");
            return None;
        }
    };
    for path in ready {
        let mut read = || -> Result<Option<File>, StoreError> {
            let failed = |source| StoreError::Folder { path: path.clone(), source };
            let content = std::fs::File::open(&path).map_err(failed)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_text = file::layout_of(&path).is_some();
            let earlier = if is_text { scan.earlier(&name) } else { Vec::new() };
            let Fingerprint { bytes, sha256, lines_taken } =
                fingerprint::read(content, &earlier).map_err(failed)?;
            let mark = Mark { path: name.clone(), bytes, sha256 };
            if scan.knows(&mark) {
                scan.note(&path, mark);
                return Ok(None);
            }
            let (file, rejected) = file::read(&path, mark, lines_taken, settings, metrics)?;
            rejects::list(folder, &name, &rejected).map_err(failed)?;
            scan.note(&path, file.mark.clone());
            Ok(Some(file))
        };
        match read() {
            Ok(None) => {}
            Ok(Some(file)) => return Some(file),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "not taken in, tried again");
            }
        }
    }
    None
}
