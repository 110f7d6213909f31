//! A real Mosquitto from the system's package.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{TEST_TIMEOUT, skip::MissingTool};

/// A running Mosquitto. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct MosquittoProcess {
    pub(crate) port: u16,
    program: PathBuf,
    dir: PathBuf,
    child: Child,
}

impl MosquittoProcess {
    /// Starts Mosquitto. With `keeps` it writes its sessions to `dir` when it ends in order.
    /// Without it every end loses them.
    ///
    /// # Errors
    /// Returns [`MissingTool`] if Mosquitto is not installed.
    pub(crate) fn start_mosquitto(dir: &Path, keeps: bool) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) = dirs.map(|dir| dir.join("mosquitto")).find(|path| path.exists()) else {
            bail!(MissingTool("the program `mosquitto` in PATH or /usr/sbin".to_owned()));
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // `user`: otherwise Mosquitto, started as root, would give up the right to its own
        // folder.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n\
             max_inflight_messages 100\nmax_queued_messages 0\n\
             persistence {keeps}\npersistence_location {}/\n",
            dir.display()
        );
        fs::create_dir_all(dir)?;
        fs::write(dir.join("mosquitto.conf"), config)?;
        let child = spawn_mosquitto(&program, dir)?;
        let broker = Self { port, program, dir: dir.to_owned(), child };
        broker.wait_until_listening()?;
        Ok(broker)
    }

    /// Sends SIGKILL; unwritten state is lost.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child = spawn_mosquitto(&self.program, &self.dir)?;
        self.wait_until_listening()
    }

    fn wait_until_listening(&self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(began.elapsed() < TEST_TIMEOUT, "mosquitto does not listen on {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for MosquittoProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.kill();
    }
}

fn spawn_mosquitto(program: &Path, dir: &Path) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}
