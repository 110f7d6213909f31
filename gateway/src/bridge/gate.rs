//! Holds a broker back by not reading from its connection, while
//! acknowledgements are written as before.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a connection is read. Receive Maximum should make it needless, but
/// Mosquitto 2.0.11 with a backlog sends up to Receive Maximum more at each
/// PUBACK that comes in order, however many are unacknowledged.
///
/// Clones act on the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_shut: AtomicBool,
    reader: AtomicWaker,
}

impl Gate {
    pub(super) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::SeqCst);
    }

    pub(super) fn open(&self) {
        if self.0.is_shut.swap(false, Ordering::SeqCst) {
            self.0.reader.wake();
        }
    }

    /// A connection that is read only while the gate is open.
    pub(super) fn guard<S>(&self, stream: S) -> Guarded<S> {
        Guarded { stream, gate: self.clone() }
    }

    fn is_shut(&self) -> bool {
        self.0.is_shut.load(Ordering::SeqCst)
    }
}

/// See [`Gate::guard`].
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    gate: Gate,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.is_shut() {
            self.gate.0.reader.register(cx.waker());
            // It may have been opened just before.
            if self.gate.is_shut() {
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        let gate = Gate::default();
        let mut near = gate.guard(near);
        far.write_all(b"ab").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'a');
        gate.shut();
        {
            let mut held = Box::pin(near.read_u8());
            assert!(poll!(&mut held).is_pending());
            gate.open();
            assert_eq!(held.await.unwrap(), b'b');
        }
        gate.shut();
        near.write_all(b"c").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'c');
    }
}
