//! Other systems' messages on real sockets: in the log, in the ledger, and answered.

mod support;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use support::{
    start_gateway,
    wire::{ProtocolVersion, WireDevice},
    within_timeout,
};
use telemetry::{SensorReport, topic};

#[tokio::test]
async fn what_is_mapped_is_logged_and_what_is_no_reading_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mapping = r#"mappings=[{ convention = "tasmota", site = "farm", zone = "bay-1" }]"#;
    let gateway = start_gateway(dir.path(), &[mapping]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let two = r#"{"DS18B20-1": {"Temperature": 20}, "DS18B20-2": {"Temperature": 18}}"#;
    let odd = r#"{"AM2301": {"Humidity": 58.2, "Sulfur": 1, "Argon": 2}}"#;
    device.deliver_message(1, "tele/board/SENSOR", two).await;
    device.deliver_message(2, "tele/board/STATE", r#"{"Uptime": "1T"}"#).await;
    device.deliver_message(3, "tele/board/SENSOR", odd).await;
    device.deliver_message(4, "tele/board/SENSOR", "{").await;
    device.deliver_message(5, "nobody/knows", "1").await;
    device.deliver_message(6, "sensors/farm/bay-1/probe/temperature", "21.5").await;
    gateway.check_totals([8, 4, 4, 0]);
    let ledger = gateway.gateway.ledger_snapshot();
    assert_eq!(ledger.messages, 6);
    let lines = ledger.devices.iter().map(|line| {
        (line.device.as_deref().unwrap_or_default(), line.counts.logged, line.counts.dead_lettered)
    });
    assert_eq!(lines.collect::<Vec<_>>(), [("", 0, 1), ("board", 3, 3), ("probe", 1, 0)]);
    let entries = gateway.read_topic(topic::READINGS).await;
    let devices = entries.iter().map(|entry| {
        let report = SensorReport::from_json(&entry.record.payload).unwrap();
        (entry.record.key.clone(), report.device.to_string())
    });
    let of = |device: &str| ("farm/bay-1".to_owned(), device.to_owned());
    assert_eq!(
        devices.collect::<Vec<_>>(),
        [of("board.DS18B20-1"), of("board.DS18B20-2"), of("board.AM2301"), of("probe")]
    );
    let letters = gateway.gateway.latest_dead_letters(10);
    assert!(letters[0].detail.ends_with("and no mapping matches it"), "{}", letters[0].detail);
    assert!(letters[2].detail.contains("AM2301.Sulfur"), "{}", letters[2].detail);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_sparkplug_node_is_asked_for_its_birth() {
    let dir = tempfile::tempdir().unwrap();
    let mapping = r#"mappings=[{ convention = "sparkplug", site = "plant", zone = "hall" }]"#;
    let gateway = start_gateway(dir.path(), &[mapping]);
    // An edge node: it waits for commands, and starts in the middle.
    let options = MqttOptions::new("edge", ("127.0.0.1", gateway.mqtt.port()));
    let (client, mut events) = AsyncClient::builder(options).capacity(8).build();
    client.subscribe("spBv1.0/g/NCMD/edge", QoS::AtLeastOnce).await.unwrap();
    let command = async {
        loop {
            match events.poll().await.unwrap() {
                Event::Incoming(Incoming::SubAck(_)) => {
                    let data = include_bytes!("golden/sparkplug/ndata.bin").to_vec();
                    let options = PublishOptions::at_least_once();
                    client.publish("spBv1.0/g/NDATA/edge", data, options).await.unwrap();
                }
                Event::Incoming(Incoming::Publish(publish)) => return publish,
                _ => {}
            }
        }
    };
    let command = within_timeout(command).await;
    assert_eq!(&command.topic[..], b"spBv1.0/g/NCMD/edge");
    let name = b"Node Control/Rebirth";
    assert!(command.payload.windows(name.len()).any(|window| window == name));
    gateway.wait_until("settled", |ledger| ledger.totals.dead_lettered == 1).await;
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn what_is_remembered_has_a_ceiling_that_the_ledger_shows() {
    let dir = tempfile::tempdir().unwrap();
    let mapping =
        r#"mappings=[{ convention = "home-assistant", site = "s", zone = "z", entities_max = 2 }]"#;
    let gateway = start_gateway(dir.path(), &[mapping, "mqtt.forward=[]"]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    for i in 0..5_u16 {
        let config = format!(r#"{{"stat_t": "+/x/{i}", "dev_cla": "humidity"}}"#);
        device.deliver_message(i + 1, &format!("homeassistant/sensor/{i}/config"), &config).await;
    }
    device.deliver_message(6, "any/x/4", "40").await;
    // The entity is forgotten, so its topic is unknown.
    device.deliver_message(7, "any/x/0", "40").await;
    let ledger = gateway.gateway.ledger_snapshot();
    assert_eq!((ledger.entities.remembered, ledger.entities.evicted), (2, 3));
    gateway.check_totals([2, 1, 1, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_list_is_logged_as_its_messages_and_what_is_ignored_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["ignore=['loops','$noise/#']"]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let list = r#"[{"co2": 400, "loops": 7, "ts": 1700000000}, {"co2": "410", "ts": 1700000060},
        {"co2": 420, "ts": 1700000120, "seq": 9}]"#;
    device.deliver_message(1, "sensors/farm/bay-1/probe", list).await;
    device.deliver_message(2, "$noise/x", "nothing").await;
    gateway.check_totals([3, 3, 0, 0]);
    let entries = gateway.read_topic(topic::READINGS).await;
    let reports =
        entries.iter().map(|entry| SensorReport::from_json(&entry.record.payload).unwrap());
    let reports: Vec<_> = reports.map(|report| (report.readings.len(), report.seq)).collect();
    assert_eq!(reports, [(2, None), (1, Some(9))]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_counter_of_a_device_that_joins_again_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mapping = r#"mappings=[{ convention = "the-things-stack", site = "s", zone = "z" }]"#;
    let gateway = start_gateway(dir.path(), &[mapping]);
    let mut device = WireDevice::connect(gateway.mqtt, ProtocolVersion::V5).await;
    let uplink = |session: &str, f_cnt: u32| {
        format!(
            r#"{{"end_device_ids": {{"device_id": "probe"}}, "uplink_message": {{"f_cnt": {f_cnt},
            "session_key_id": "{session}", "received_at": "2023-11-14T22:13:{f_cnt:02}Z",
            "decoded_payload": {{"temperature": 21.5}}}}}}"#
        )
    };
    let topic = "v3/app/devices/probe/up";
    for (packet, (session, f_cnt)) in
        [("a", 1), ("a", 2), ("a", 2), ("b", 1), ("b", 2), ("b", 4)].into_iter().enumerate()
    {
        let packet = u16::try_from(packet).unwrap() + 1;
        device.deliver_message(packet, topic, &uplink(session, f_cnt)).await;
    }
    // In the first session the second message with number 2 is a copy; the messages of the other
    // session are not.
    gateway.check_totals([6, 5, 0, 1]);
    let ledger = gateway.gateway.ledger_snapshot();
    assert_eq!((ledger.totals.sequence_gaps, ledger.totals.resets), (1, 1));
    gateway.stop_gateway().await;
}
