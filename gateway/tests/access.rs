//! Users, their rights and their rate limits, on real sockets.

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use microclimate_gateway::{GatewaySettings, access::users_file_line};
use support::{
    RunningGateway, start_gateway, try_start_gateway,
    wire::{ConnectPacket, ProtocolVersion, ServerPacket, WireDevice},
    within_timeout,
};

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3, ProtocolVersion::V5];
const READING: &str = r#"{"temperature": 21.5}"#;

/// Writes a users file. Each user's password is the name, and the rights are as given.
fn write_users(dir: &Path, users: &[(&str, &[&str])]) -> String {
    let file = dir.join("users");
    let lines = users.iter().map(|(name, rights)| {
        let rights: Vec<String> = rights.iter().map(|right| (*right).to_owned()).collect();
        users_file_line(name, Some(name), &rights).unwrap() + "\n"
    });
    fs::write(&file, lines.collect::<String>()).unwrap();
    format!("mqtt.users_file={}", file.display())
}

const BAY: &[&str] = &[
    "publish:sensors/farm/{user}/#",
    "publish:status/{client}",
    "retain:status/{client}",
    "subscribe:predictions/farm/{user}/#",
];

async fn connect_as(
    gateway: &RunningGateway,
    version: ProtocolVersion,
    user: &str,
    client: &str,
) -> WireDevice {
    let hello = ConnectPacket {
        client: Some(client),
        credentials: Some((user, user)),
        ..ConnectPacket::default()
    };
    let (device, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
    assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
    device
}

/// Returns the value of a metric, without labels or with those in `name`.
fn metric_value(gateway: &RunningGateway, name: &str) -> f64 {
    let text = gateway.gateway.render_metrics();
    let line = text.lines().find(|line| line.starts_with(&format!("microclimate_gateway_{name} ")));
    line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()).unwrap()
}

#[tokio::test]
async fn a_user_says_what_is_its_own_and_nothing_else_is_acknowledged() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let users = write_users(dir.path(), &[("bay-1", BAY)]);
        let gateway = start_gateway(&dir.path().join("log"), &[&users]);
        let mut device = connect_as(&gateway, version, "bay-1", "probe").await;
        device.deliver_message(1, "sensors/farm/bay-1/probe", READING).await;
        device.send_qos0("sensors/farm/bay-2/probe", READING, false).await.unwrap();
        device.publish(2, "sensors/farm/bay-2/probe", READING).await.unwrap();
        match version {
            // The client is told, and its other messages continue.
            ProtocolVersion::V5 => {
                assert_eq!(
                    within_timeout(device.next_packet()).await,
                    ServerPacket::Acknowledged(2, 0x87)
                );
                device.deliver_message(3, "sensors/farm/bay-1/probe", READING).await;
            }
            // The client cannot be told: its connection ends, and it keeps the message.
            ProtocolVersion::V3 => {
                assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::End);
            }
        }
        assert_eq!(metric_value(&gateway, "publishes_denied_total"), 2.0);
        let logged = if version == ProtocolVersion::V5 { 2 } else { 1 };
        gateway.check_totals([logged, logged, 0, 0]);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn keeping_a_message_is_a_right_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(
        dir.path(),
        &[("bay-1", BAY), ("teller", &["publish:status/#"]), ("reader", &["subscribe:#"])],
    );
    let gateway = start_gateway(&dir.path().join("log"), &[&users]);
    let mut device = connect_as(&gateway, ProtocolVersion::V5, "bay-1", "probe").await;
    device.retain(1, "status/probe", "here").await;
    assert_eq!(within_timeout(device.next_packet()).await, ServerPacket::Acknowledged(1, 0));
    let mut teller = connect_as(&gateway, ProtocolVersion::V5, "teller", "t").await;
    teller.retain(1, "status/probe", "gone").await;
    assert_eq!(within_timeout(teller.next_packet()).await, ServerPacket::Acknowledged(1, 0x87));
    teller.deliver_message(2, "status/x", "not kept").await;
    let mut reader = connect_as(&gateway, ProtocolVersion::V5, "reader", "r").await;
    assert_eq!(reader.subscribe("status/#").await, 0);
    let first = within_timeout(reader.next_packet()).await;
    assert_eq!(first, ServerPacket::Message("status/probe".to_owned(), "here".to_owned()));
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_user_reads_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(dir.path(), &[("bay-1", BAY)]);
    let gateway = start_gateway(&dir.path().join("log"), &[&users]);
    for version in BOTH {
        let mut device = connect_as(&gateway, version, "bay-1", "probe").await;
        let refused = if version == ProtocolVersion::V5 { 0x87 } else { 0x80 };
        for (filter, expect) in [
            ("predictions/farm/bay-1/#", 0),
            ("predictions/farm/bay-1/frost", 0),
            ("predictions/farm/+/frost", refused),
            ("predictions/#", refused),
            ("#", refused),
        ] {
            assert_eq!(device.subscribe(filter).await, expect, "{version:?} {filter}");
        }
        let shared = device.subscribe("$share/group/predictions/farm/bay-1/#").await;
        assert_eq!(shared, if version == ProtocolVersion::V5 { 0x9E } else { 0x80 });
        gateway.gateway.downlink().publish("predictions/farm/bay-2/frost", "2", false);
        gateway.gateway.downlink().publish("predictions/farm/bay-1/frost", "1", false);
        let got = within_timeout(device.next_packet()).await;
        assert_eq!(got, ServerPacket::Message("predictions/farm/bay-1/frost".into(), "1".into()));
    }
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_will_is_not_left_that_may_not_be_said() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(dir.path(), &[("bay-1", BAY)]);
    let gateway = start_gateway(&dir.path().join("log"), &[&users]);
    for version in BOTH {
        let check = async |topic, expect| {
            let hello = ConnectPacket {
                client: Some("probe"),
                credentials: Some(("bay-1", "bay-1")),
                will: Some((topic, "gone")),
                ..ConnectPacket::default()
            };
            let (_, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
            assert_eq!(answer, ServerPacket::Connected(expect), "{version:?} {topic}");
        };
        check("status/probe", 0).await;
        check("status/other", if version == ProtocolVersion::V5 { 0x87 } else { 5 }).await;
    }
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn two_users_with_one_client_name_are_two_clients() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(dir.path(), &[("bay-1", BAY), ("bay-2", BAY)]);
    let gateway = start_gateway(&dir.path().join("log"), &[&users]);
    let mut first = connect_as(&gateway, ProtocolVersion::V5, "bay-1", "probe").await;
    let mut second = connect_as(&gateway, ProtocolVersion::V5, "bay-2", "probe").await;
    first.ping().await;
    second.ping().await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_main_user_may_do_everything_beside_the_users_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(dir.path(), &[("bay-1", BAY)]);
    let set = [users.as_str(), "mqtt.user=main", "mqtt.password=main"];
    let gateway = start_gateway(&dir.path().join("log"), &set);
    let mut main = connect_as(&gateway, ProtocolVersion::V3, "main", "m").await;
    main.deliver_message(1, "sensors/farm/bay-2/probe", READING).await;
    assert_eq!(main.subscribe("#").await, 0);
    connect_as(&gateway, ProtocolVersion::V3, "bay-1", "probe").await.ping().await;
    let (_, answer) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, ConnectPacket::default())
            .await;
    assert_eq!(answer, ServerPacket::Connected(4));
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn who_guesses_waits() {
    let dir = tempfile::tempdir().unwrap();
    let users = write_users(dir.path(), &[("bay-1", BAY), ("bay-2", BAY)]);
    let gateway = start_gateway(&dir.path().join("log"), &[&users]);
    let try_with = async |version, user, password| {
        let hello =
            ConnectPacket { credentials: Some((user, password)), ..ConnectPacket::default() };
        WireDevice::open_connection(gateway.mqtt, version, hello).await.1
    };
    // An outdated password, sent again and again, is not a guess.
    for _ in 0..10 {
        assert_eq!(try_with(ProtocolVersion::V3, "bay-2", "old").await, ServerPacket::Connected(4));
    }
    assert_eq!(try_with(ProtocolVersion::V3, "bay-2", "bay-2").await, ServerPacket::Connected(0));
    for guess in ["a", "b", "c", "d"] {
        assert_eq!(
            try_with(ProtocolVersion::V5, "bay-1", guess).await,
            ServerPacket::Connected(0x86)
        );
    }
    // Now no password is checked, and MQTT 5 clients are told why.
    assert_eq!(
        try_with(ProtocolVersion::V5, "bay-1", "bay-1").await,
        ServerPacket::Connected(0x9F)
    );
    assert_eq!(try_with(ProtocolVersion::V3, "bay-1", "bay-1").await, ServerPacket::Connected(3));
    assert_eq!(try_with(ProtocolVersion::V3, "bay-2", "bay-2").await, ServerPacket::Connected(0));
    assert!(metric_value(&gateway, "attempts_refused_total") >= 2.0);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_reload_takes_users_again_and_closes_whose_rights_are_others() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let users = write_users(dir.path(), &[("bay-1", BAY), ("bay-2", BAY)]);
        let gateway = start_gateway(&dir.path().join("log"), &[&users]);
        let mut changed = connect_as(&gateway, version, "bay-1", "one").await;
        let mut same = connect_as(&gateway, version, "bay-2", "two").await;
        let text = fs::read_to_string(dir.path().join("users")).unwrap();
        // A mistake changes nothing, and is named.
        fs::write(dir.path().join("users"), format!("{text}bay-3 secret\n")).unwrap();
        let refused = gateway.gateway.apply_settings(&gateway.settings).unwrap_err().to_string();
        assert!(refused.contains("users:3: the hash of bay-3"), "{refused}");
        changed.ping().await;
        let text = text.replacen("subscribe:predictions/farm/{user}/#", "", 1);
        fs::write(dir.path().join("users"), text).unwrap();
        gateway.gateway.apply_settings(&gateway.settings).unwrap();
        if version == ProtocolVersion::V5 {
            assert_eq!(
                within_timeout(changed.next_packet()).await,
                ServerPacket::Other(14),
                "DISCONNECT"
            );
        }
        assert_eq!(within_timeout(changed.next_packet()).await, ServerPacket::End);
        same.ping().await;
        let mut again = connect_as(&gateway, version, "bay-1", "one").await;
        assert_ne!(again.subscribe("predictions/farm/bay-1/#").await, 0);
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_user_that_is_gone_leaves_no_will() {
    for version in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let users = write_users(dir.path(), &[("bay-1", BAY), ("reader", &["subscribe:#"])]);
        let gateway = start_gateway(&dir.path().join("log"), &[&users]);
        let mut reader = connect_as(&gateway, version, "reader", "r").await;
        assert_eq!(reader.subscribe("status/#").await, 0);
        let hello = ConnectPacket {
            client: Some("probe"),
            credentials: Some(("bay-1", "bay-1")),
            will: Some(("status/probe", "gone")),
            ..ConnectPacket::default()
        };
        let (_removed, answer) = WireDevice::open_connection(gateway.mqtt, version, hello).await;
        assert_eq!(answer, ServerPacket::Connected(0), "{version:?}");
        let text = fs::read_to_string(dir.path().join("users")).unwrap();
        let reader_lines = text.lines().filter(|line| line.starts_with("reader "));
        fs::write(dir.path().join("users"), reader_lines.collect::<String>()).unwrap();
        gateway.gateway.apply_settings(&gateway.settings).unwrap();
        gateway_is_rid_of_all_but(&gateway, 1).await;
        gateway.gateway.downlink().publish("status/marker", "here", false);
        let got = within_timeout(reader.next_packet()).await;
        assert_eq!(
            got,
            ServerPacket::Message("status/marker".into(), "here".into()),
            "{version:?}"
        );
        assert_eq!(metric_value(&gateway, "publishes_denied_total"), 1.0);
        gateway.stop_gateway().await;
    }
}

/// Waits until this many connections are left, and the other wills are published.
async fn gateway_is_rid_of_all_but(gateway: &RunningGateway, connections: u32) {
    within_timeout(async {
        while metric_value(gateway, "connections") > f64::from(connections) {
            tokio::task::yield_now().await;
        }
        // The count drops before the will is published, on the listener's thread. It has had its
        // turn now.
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, ConnectPacket::default())
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_will_is_kept_by_right_only() {
    for (rights, expect) in [
        (&["publish:offline/#"][..], "marker"),
        (&["publish:offline/#", "retain:offline/#"], "offline"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let set = write_users(dir.path(), &[("bay-1", rights), ("reader", &["subscribe:#"])]);
        let gateway = start_gateway(&dir.path().join("log"), &[&set]);
        let hello = ConnectPacket {
            credentials: Some(("bay-1", "bay-1")),
            will: Some(("offline/probe", "offline")),
            retains_will: true,
            ..ConnectPacket::default()
        };
        drop(WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V5, hello).await);
        gateway.wait_until("the will", |ledger| ledger.totals.dead_lettered == 1).await;
        gateway_is_rid_of_all_but(&gateway, 0).await;
        let mut reader = connect_as(&gateway, ProtocolVersion::V5, "reader", "r").await;
        assert_eq!(reader.subscribe_all(&["offline/#"]).await, [0]);
        gateway.gateway.downlink().publish("offline/marker", "marker", false);
        let got = within_timeout(reader.next_packet()).await;
        assert!(matches!(&got, ServerPacket::Message(_, payload) if payload == expect), "{got:?}");
        gateway.stop_gateway().await;
    }
}

#[tokio::test]
async fn a_reload_does_not_let_in_everybody_from_other_machines() {
    let dir = tempfile::tempdir().unwrap();
    let log = format!("log.dir={}", dir.path().join("log").display());
    let elsewhere = ["mqtt.listen=0.0.0.0:1883", "mqtt.allow_plaintext_password=true", &log];
    // The test binds its own socket.
    let gateway =
        start_gateway(&dir.path().join("log"), &[&elsewhere[..], &["mqtt.password=one"]].concat());
    let settings = |more: &[&str]| {
        let set: Vec<String> = elsewhere.iter().chain(more).map(|s| (*s).to_owned()).collect();
        GatewaySettings::load(None, &set).unwrap()
    };
    let refused = gateway.gateway.apply_settings(&settings(&[])).unwrap_err().to_string();
    assert!(refused.contains("everybody would be let in"), "{refused}");
    let (_, answer) =
        WireDevice::open_connection(gateway.mqtt, ProtocolVersion::V3, ConnectPacket::default())
            .await;
    assert_eq!(answer, ServerPacket::Connected(4));
    gateway.gateway.apply_settings(&settings(&["mqtt.password=two"])).unwrap();
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_users_file_with_mistakes_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    let set = format!("mqtt.users_file={}", file.display());
    let missing = try_start_gateway(&dir.path().join("log"), &[&set]).err().unwrap().to_string();
    assert!(missing.contains("users: cannot be read"), "{missing}");
    fs::write(&file, "bay-1 - read:x\n@g publish:#/a\n").unwrap();
    let text = try_start_gateway(&dir.path().join("log"), &[&set]).err().unwrap().to_string();
    assert!(text.contains("users:1: `read`") && text.contains("users:2: `#/a`"), "{text}");
    assert!(text.contains("hint: "), "{text}");
}

#[test]
fn the_command_prints_a_line_that_the_gateway_reads() {
    let run = |args: &[&str], input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["user", "add"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The program may not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (is_fine, line, _) = run(&["bay-1", "publish:a/{user}", "@g"], "s3cret\n");
    assert!(is_fine && line.starts_with("bay-1 $argon2id$v=19$m=7168,t=5,p=1$"), "{line}");
    assert!(line.ends_with(" publish:a/{user} @g\n") && !line.contains("s3cret"), "{line}");
    let (is_fine, line, stderr) = run(&["bay-1", "--generate"], "");
    assert!(
        is_fine && line.starts_with("bay-1 $argon2id$") && stderr.trim().len() == 48,
        "{stderr}"
    );
    let (is_fine, line, _) = run(&["probe-7", "--certificate-only"], "");
    assert!(is_fine && line == "probe-7 - \n", "{line}");
    for (args, input) in
        [(&["bay-1"][..], ""), (&["b/y"], "s3cret\n"), (&["bay-1", "read:x"], "s3cret\n")]
    {
        let (is_fine, line, stderr) = run(args, input);
        assert!(!is_fine && line.is_empty() && !stderr.is_empty(), "{args:?}: {line}{stderr}");
    }
}
