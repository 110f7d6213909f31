//! A consistent copy of a data folder that is in use.
//!
//! The running process listens at a socket in its data folder, which its own user alone can open.
//! For each connection it lets the current transaction finish, copies the DuckDB file, and links
//! everything else, whose files are only appended to or replaced. The log is linked after the
//! database is copied, so that it has every record that the database does not: a restored folder
//! goes on as after a power failure. The copy is removed when the connection ends.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use feature_store::FeatureStore;
use service::disk::DiskSpace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use tokio_util::sync::CancellationToken;

use super::files_below;

/// Folder of the copy, below the data folder.
pub(super) const STAGING: &str = "backup-staging";
const SOCKET: &str = "backup.sock";
/// Answer of the running process once the copy is there.
const READY: &str = "ready";
/// Free room that a copy leaves to the running process, bytes.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// How long a copy of the database may take.
const COPY_MAX: Duration = Duration::from_secs(3600);

/// A copy that the running process keeps while this exists.
pub(super) struct StagedCopy {
    /// Folder of the copy.
    pub(super) dir: PathBuf,
    connection: BufReader<UnixStream>,
}

impl StagedCopy {
    /// Asks the process that runs on a data folder for a copy.
    ///
    /// # Errors
    /// Where no Microclimate answers there, or it could not make a copy.
    pub(super) fn request(data_dir: &Path) -> Result<Self> {
        let connection = UnixStream::connect(data_dir.join(SOCKET)).with_context(|| {
            format!(
                "{} is in use, and no running Microclimate answers in it\n\
                 hint: end the program that uses it (`microclimate demo` or `gateway run`), then \
                 try again",
                data_dir.display()
            )
        })?;
        connection.set_read_timeout(Some(COPY_MAX))?;
        let mut connection = BufReader::new(connection);
        let mut answer = String::new();
        connection.read_line(&mut answer).context("the running Microclimate does not answer")?;
        match answer.trim_end() {
            READY => Ok(Self { dir: data_dir.join(STAGING), connection }),
            "" => bail!("the running Microclimate ended before the copy was there"),
            error => bail!("the running Microclimate made no copy: {error}"),
        }
    }
}

impl Drop for StagedCopy {
    /// Waits until the running process has removed the copy.
    fn drop(&mut self) {
        let _ = self.connection.get_ref().shutdown(Shutdown::Write);
        let _ = self.connection.read_to_end(&mut Vec::new());
    }
}

/// Makes copies for `microclimate backup` until `stop`.
pub(crate) async fn serve_backups(data_dir: PathBuf, store: FeatureStore, stop: CancellationToken) {
    let path = data_dir.join(SOCKET);
    // Those of a process that was killed.
    let _ = fs::remove_file(&path);
    remove_copy(&data_dir);
    let bound = UnixListener::bind(&path).and_then(|socket| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map(|()| socket)
    });
    let socket = match bound {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no backups while this runs");
            return;
        }
    };
    let serve = async {
        loop {
            let Ok((mut connection, _)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let (store, from) = (store.clone(), data_dir.clone());
            let copied = tokio::task::spawn_blocking(move || stage_copy(&store, &from)).await;
            let answer = match copied.map_err(anyhow::Error::from).and_then(|copied| copied) {
                Ok(()) => format!("{READY}\n"),
                Err(error) => format!("{error:#}\n").replace('\n', " ") + "\n",
            };
            if connection.write_all(answer.as_bytes()).await.is_ok() {
                // The other side closes it when it has what it needs.
                let _ = connection.read(&mut [0; 1]).await;
            }
            remove_copy(&data_dir);
            drop(connection);
        }
    };
    tokio::select! {
        () = serve => {}
        () = stop.cancelled() => {}
    }
    remove_copy(&data_dir);
    let _ = fs::remove_file(&path);
}

fn remove_copy(data_dir: &Path) {
    let _ = fs::remove_dir_all(data_dir.join(STAGING));
}

fn stage_copy(store: &FeatureStore, data_dir: &Path) -> Result<()> {
    let staging = data_dir.join(STAGING);
    let is_database = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(".duckdb"))
    };
    let result = store.with_files_at_rest(|| {
        let files = files_below(data_dir)?;
        let (databases, others): (Vec<PathBuf>, Vec<PathBuf>) =
            files.into_iter().partition(|path| is_database(path));
        let sizes = databases.iter().filter_map(|path| data_dir.join(path).metadata().ok());
        let bytes = sizes.map(|found| found.len()).sum::<u64>() + FREE_BYTES_MIN;
        let free_bytes = DiskSpace::at_path(data_dir)?.free_bytes;
        if free_bytes < bytes {
            bail!(
                "{:.1} GB free, {:.1} GB needed for a copy of the database",
                free_bytes as f64 / 1e9,
                bytes as f64 / 1e9
            );
        }
        for path in databases {
            copy_into(data_dir, &staging, &path, |from, to| fs::copy(from, to).map(drop))?;
        }
        for path in others {
            copy_into(data_dir, &staging, &path, |from, to| fs::hard_link(from, to))?;
        }
        Ok(())
    });
    result.with_context(|| staging.display().to_string())
}

/// Copies or links one file; one that is gone meanwhile, as a trimmed segment of the log, is left
/// out.
fn copy_into(
    from: &Path,
    staging: &Path,
    path: &Path,
    copy: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<()> {
    let (source, place) = (from.join(path), staging.join(path));
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    match copy(&source, &place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && File::open(&source).is_err() => {
            Ok(())
        }
        copied => copied.with_context(|| source.display().to_string()),
    }
}
