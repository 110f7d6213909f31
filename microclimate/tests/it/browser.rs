//! A real Chromium, driven by its own protocol over two pipes.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Connects the pipes to the descriptors at which Chromium expects its protocol.
const START: &str = r#"exec "$0" "$@" 3<"$PROTOCOL_IN" 4>"$PROTOCOL_OUT""#;

pub(crate) struct Browser {
    process: Child,
    to: File,
    from: Receiver<Value>,
    next_id: u64,
    _dir: TempDir,
}

/// A tab, and what its console complained of.
pub(crate) struct BrowserPage {
    browser: Browser,
    session: String,
    pub(crate) complaints: VecDeque<String>,
}

impl Browser {
    /// None, with the reason printed, where there is no Chromium; a failure where
    /// `MICROCLIMATE_BROWSER=required`.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find_program() else {
            let required =
                std::env::var_os("MICROCLIMATE_BROWSER").is_some_and(|v| v == "required");
            assert!(!required, "a browser is required here, and none of {NAMES:?} is installed");
            println!("skipped: the page's tests need Chromium, which is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let pipes = ["in", "out"].map(|name| dir.path().join(name));
        assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
        let process = Command::new("sh")
            .args(["-c", START])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--remote-debugging-pipe", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .env("PROTOCOL_IN", &pipes[0])
            .env("PROTOCOL_OUT", &pipes[1])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each opening waits for the other side: in the order in which the shell does it.
        let to = OpenOptions::new().write(true).open(&pipes[0]).unwrap();
        let answers = BufReader::new(File::open(&pipes[1]).unwrap());
        let (sender, from) = mpsc::channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Some(Self { process, to, from, next_id: 0, _dir: dir })
    }

    /// Opens an empty tab of this size.
    pub(crate) fn open_page(mut self, width: u32, height: u32) -> BrowserPage {
        let mut ignored = VecDeque::new();
        let target =
            self.call(None, "Target.createTarget", &json!({"url": "about:blank"}), &mut ignored);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach, &mut ignored);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let mut page = BrowserPage { browser: self, session, complaints: VecDeque::new() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.resize(width, height);
        page
    }

    fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: &Value,
        complaints: &mut VecDeque<String>,
    ) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        // Other events may keep coming: the limit is of the answer, not of each of them.
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        loop {
            let time_left = deadline.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(time_left).unwrap_or_else(|error| {
                panic!("{method}: no answer of the browser: {error}");
            });
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            complaints.extend(complaint(&answer));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl BrowserPage {
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params, &mut self.complaints)
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Shows pages in the system's dark or light colours.
    pub(crate) fn prefer_dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Cuts the network, or brings it back.
    pub(crate) fn set_offline(&mut self, is_offline: bool) {
        let conditions = json!({"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.call("Network.emulateNetworkConditions", &conditions);
    }

    pub(crate) fn go_to(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// Evaluates an expression, and waits for a promise.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &params);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != json!(true) {
            if start.elapsed() > ANSWER_TIME_MAX {
                let shown = self.evaluate("document.body?.innerText.slice(0, 1500)");
                let complaints = &self.complaints;
                panic!(
                    "{expression} did not come true; shown is {shown}; complaints: {complaints:?}"
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text that is shown.
    pub(crate) fn text(&mut self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }
}

fn find_program() -> Option<PathBuf> {
    if let Some(own) = std::env::var_os("MICROCLIMATE_CHROMIUM") {
        return Some(own.into());
    }
    let paths = std::env::var_os("PATH")?;
    let candidates =
        std::env::split_paths(&paths).flat_map(|path| NAMES.map(|name| path.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// Returns what a page's console complains of: errors of scripts, and what the policy forbids.
fn complaint(event: &Value) -> Option<String> {
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(event["params"]["exceptionDetails"].to_string()),
        "Log.entryAdded" => {
            let entry = &event["params"]["entry"];
            // What the network refuses is the subject of some tests.
            let is_counted = entry["level"] == "error" && entry["source"] != "network";
            is_counted.then(|| entry["text"].to_string())
        }
        _ => None,
    }
}
