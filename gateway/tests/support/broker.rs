//! A real Mosquitto, if one is installed.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    RunningGateway, start_gateway,
    wire::{ProtocolVersion, WireDevice},
    within_timeout,
};

/// A Mosquitto with a store on disk. Dropping it kills it.
pub(crate) struct MosquittoFixture {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl MosquittoFixture {
    /// Starts a broker; `None` if Mosquitto is not installed. In CI that is a failure.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        Self::start_with(dir, "")
    }

    /// Starts a broker with a further listener, as `more` of its configuration states.
    pub(crate) fn start_with(dir: &Path, more: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) = dirs.map(|dir| dir.join("mosquitto")).find(|path| path.exists()) else {
            assert!(std::env::var_os("MICROCLIMATE_BROKERS").is_none(), "mosquitto is missing");
            eprintln!("skipped: needs the program `mosquitto` in PATH or /usr/sbin");
            return None;
        };
        let port = free_port();
        let dir = dir.to_owned();
        // `user`: otherwise Mosquitto, started as root, would give up the right to its own
        // folder.
        let config = format!(
            "per_listener_settings true\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n\
             max_inflight_messages 0\nmax_queued_messages 0\nuser root\n{more}",
            dir.display()
        );
        fs::write(dir.join("mosquitto.conf"), config).unwrap();
        let child = spawn_mosquitto(&program, &dir);
        Some(Self { program, dir, port, child })
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn_mosquitto(&self.program, &self.dir);
    }

    pub(crate) fn kill(&mut self) {
        // The process may have ended by itself, and then there is nothing to do.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    pub(crate) async fn connect_device(&self) -> WireDevice {
        let address = ([127, 0, 0, 1], self.port).into();
        let answers = async {
            while std::net::TcpStream::connect(address).is_err() {
                tokio::task::yield_now().await;
            }
        };
        within_timeout(answers).await;
        WireDevice::connect(address, ProtocolVersion::V5).await
    }

    /// Starts a gateway that is connected to this broker.
    pub(crate) async fn start_gateway(&self, dir: &Path, set: &[&str]) -> RunningGateway {
        let port = format!("mqtt.port={}", self.port);
        let gateway = start_gateway(dir, &[&["mqtt.mode=bridge", port.as_str()], set].concat());
        let connected = async {
            while !gateway.gateway.render_metrics().contains("gateway_ready 1") {
                tokio::task::yield_now().await;
            }
        };
        within_timeout(connected).await;
        gateway
    }
}

impl Drop for MosquittoFixture {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn_mosquitto(program: &Path, dir: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
