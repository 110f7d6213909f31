//! Holds a broker back by not reading from its connection, while acknowledgements are still
//! written; and disconnects without losing messages in flight.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a connection is read. Receive Maximum should make this unnecessary. But Mosquitto
/// 2.0.11 with a backlog sends up to Receive Maximum further messages at each PUBACK in order,
/// however many are unacknowledged.
///
/// Receive Maximum does not apply to messages of QoS 0: only TCP holds them back.
///
/// All clones control the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadGate(Arc<ReadGateState>);

#[derive(Debug, Default)]
struct ReadGateState {
    is_shut: AtomicBool,
    is_leaving: AtomicBool,
    reader: AtomicWaker,
}

/// The packet DISCONNECT with reason "normal" of MQTT 5 and 3.1.1.
const DISCONNECT: [u8; 2] = [0xE0, 0];

impl ReadGate {
    pub(super) fn pause_reads(&self) {
        self.0.is_shut.store(true, Ordering::SeqCst);
    }

    pub(super) fn resume_reads(&self) {
        if self.0.is_shut.swap(false, Ordering::SeqCst) {
            self.0.reader.wake();
        }
    }

    /// Sends DISCONNECT and writes nothing more, but continues to read until the broker has
    /// closed the connection, because a message of QoS 0 in flight exists nowhere else. Call this
    /// when all acknowledgements are written.
    pub(super) fn leave_broker(&self) {
        self.0.is_leaving.store(true, Ordering::SeqCst);
        self.0.reader.wake();
    }

    /// Wraps a connection so that it is read only while the gate is open. `speaks_mqtt` states
    /// that it carries plain MQTT, not TLS.
    pub(super) fn wrap_stream<S>(&self, stream: S, speaks_mqtt: bool) -> GatedStream<S> {
        let goodbye = if speaks_mqtt { &DISCONNECT[..] } else { &[] };
        GatedStream {
            stream,
            gate: self.clone(),
            goodbye,
            is_write_closed: false,
            untold_end: None,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.0.is_shut.load(Ordering::SeqCst)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.is_leaving.load(Ordering::SeqCst)
    }
}

/// The stream of [`ReadGate::wrap_stream`].
#[derive(Debug)]
pub(super) struct GatedStream<S> {
    stream: S,
    gate: ReadGate,
    /// The bytes of DISCONNECT that are still to be written.
    goodbye: &'static [u8],
    is_write_closed: bool,
    /// How the connection ended. The client library reads packets in batches, and forgets those
    /// of a batch in which the connection ends. The end is therefore reported only at the next
    /// read, which is after the batch.
    untold_end: Option<io::Result<()>>,
}

impl<S: AsyncWrite + Unpin> GatedStream<S> {
    /// Writes the DISCONNECT and closes this direction. The client library reads only after it
    /// has written everything, so this happens between two packets.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.goodbye.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.goodbye))?;
            self.goodbye = &self.goodbye[written..];
        }
        if !self.is_write_closed {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_write_closed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GatedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.is_leaving()
            && let Poll::Ready(Err(error)) = self.poll_leave(cx)
        {
            tracing::debug!(%error, "the broker closed the connection first");
        }
        if self.gate.is_paused() {
            self.gate.0.reader.register(cx.waker());
            // The gate may have been opened just before.
            if self.gate.is_paused() {
                return Poll::Pending;
            }
        }
        if let Some(end) = self.untold_end.take() {
            return Poll::Ready(end);
        }
        let room = into.remaining();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
        if read.is_ok() && (into.remaining() < room || room == 0) {
            return Poll::Ready(Ok(()));
        }
        self.untold_end = Some(read);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_write_closed {
            // This is a late ping. An error would end the reading too.
            return Poll::Ready(Ok(from.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_shut_gate_holds_what_comes_and_lets_out_what_goes() {
        let (near, mut far) = duplex(64);
        let gate = ReadGate::default();
        let mut near = gate.wrap_stream(near, true);
        far.write_all(b"ab").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'a');
        gate.pause_reads();
        {
            let mut pending_read = Box::pin(near.read_u8());
            assert!(poll!(&mut pending_read).is_pending());
            gate.resume_reads();
            assert_eq!(pending_read.await.unwrap(), b'b');
        }
        gate.pause_reads();
        near.write_all(b"c").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'c');
    }

    #[tokio::test]
    async fn taking_leave_says_so_and_reads_to_the_end() {
        for (speaks_mqtt, expect) in [(true, &DISCONNECT[..]), (false, &[])] {
            let (near, mut far) = duplex(64);
            let gate = ReadGate::default();
            let mut near = gate.wrap_stream(near, speaks_mqtt);
            far.write_all(b"ab").await.unwrap();
            gate.leave_broker();
            assert_eq!(near.read_u8().await.unwrap(), b'a');
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, expect);
            far.write_all(b"c").await.unwrap();
            drop(far);
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"bc");
        }
    }

    #[tokio::test]
    async fn the_end_is_told_to_who_asks_once_more() {
        let (near, mut far) = duplex(64);
        let mut near = ReadGate::default().wrap_stream(near, true);
        far.write_all(b"a").await.unwrap();
        drop(far);
        let mut bytes = [0; 8];
        assert_eq!(near.read(&mut bytes).await.unwrap(), 1);
        assert!(poll!(Box::pin(near.read(&mut bytes))).is_pending());
        assert!(matches!(poll!(Box::pin(near.read(&mut bytes))), Poll::Ready(Ok(0))));
    }
}
