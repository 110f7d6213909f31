//! The throughput of the programs on both sides of the gateway, without it.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::{
    load::{LoadPlan, build_payload},
    mqtt::{self, PUBLISH, PacketFramer, ProtocolLevel, SUBACK},
};

/// Measures the messages per second of a plain producer into a topic of its own, with the
/// gateway's settings.
pub(crate) async fn measure_producer(brokers: &str, seconds: u64) -> Result<f64> {
    const TOPIC: &str = "peer";
    // The gateway's log creates the topic, as in the gateway.
    let log = eventlog::EventLog::open(&eventlog::EventLogConfig::for_kafka(brokers))?;
    let count = || -> Result<i64> {
        let bounds = tokio::task::block_in_place(|| log.offset_bounds(TOPIC))?;
        Ok(bounds.values().map(|offsets| offsets.end).sum())
    };
    count()?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("queue.buffering.max.kbytes", "16384")
        .create()?;
    let began = Instant::now();
    let mut seq = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        let (key, payload) = (format!("farm/bay-{}", seq % 12), build_payload(seq));
        let record = BaseRecord::to(TOPIC).key(&key).payload(&payload);
        match producer.send(record) {
            Ok(()) => seq += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                sleep(Duration::from_millis(1)).await;
            }
            Err((error, _)) => return Err(anyhow!("cannot produce: {error}")),
        }
    }
    tokio::task::block_in_place(|| producer.flush(super::TEST_TIMEOUT))?;
    let took_s = began.elapsed().as_secs_f64();
    ensure!(count()? == seq as i64, "{} of {seq} are in Kafka", count()?);
    Ok(seq as f64 / took_s)
}

/// Measures the messages per second through Mosquitto to a subscriber that acknowledges at once.
pub(crate) async fn measure_relay(load: &LoadPlan, seconds: u64) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", load.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&mqtt::encode_connect(ProtocolLevel::V3, "subscriber", 0)).await?;
    stream.write_all(&mqtt::encode_subscribe(ProtocolLevel::V3, "sensors/#")).await?;
    let (mut framer, mut incoming) = (PacketFramer::default(), vec![0; 64 * 1024]);
    let (mut outgoing, mut received) = (Vec::new(), 0_u64);
    let mut running = None;
    let mut began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let bytes = stream.read(&mut incoming).await?;
        ensure!(bytes > 0, "the broker closed the connection");
        framer.push(&incoming[..bytes]);
        outgoing.clear();
        while let Some(packet) = framer.next() {
            match packet.kind() {
                SUBACK => {
                    running = Some(load.start_load());
                    began = Instant::now();
                }
                PUBLISH => {
                    let id = packet.parse_publish(ProtocolLevel::V3).and_then(|publish| publish.id);
                    outgoing.extend(id.map(mqtt::encode_puback).into_iter().flatten());
                    received += 1;
                }
                _ => {}
            }
        }
        stream.write_all(&outgoing).await?;
    }
    let took_s = began.elapsed().as_secs_f64();
    if let Some(running) = running {
        running.finish_load().await?;
    }
    Ok(received as f64 / took_s)
}
