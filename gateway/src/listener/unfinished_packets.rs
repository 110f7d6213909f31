//! Reports the received bytes of each connection to the connection table, and passes the
//! connection's entry to its handlers. Bytes pass through unchanged.

use std::{
    any::{Any, TypeId},
    fmt, io,
    rc::Rc,
};

use ntex::io::{FilterBuf, FilterLayer};

use super::connection_table::{ConnectionTable, ListenerConnection};

/// A connection as its handlers see it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionContext {
    pub(super) table: Rc<ConnectionTable>,
    pub(super) connection: Rc<ListenerConnection>,
    /// The names in the client's certificate.
    pub(super) certificate_names: Rc<[String]>,
}

/// The layer between the (decrypted) bytes and the packets.
pub(super) struct UnfinishedPackets(pub(super) ConnectionContext);

impl fmt::Debug for UnfinishedPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnfinishedPackets").field(&self.0.connection.address).finish()
    }
}

impl FilterLayer for UnfinishedPackets {
    fn query(&self, id: TypeId) -> Option<Box<dyn Any>> {
        (id == TypeId::of::<ConnectionContext>()).then(|| Box::new(self.0.clone()) as Box<dyn Any>)
    }

    fn process_read_buf(&self, buffers: &FilterBuf<'_>) -> io::Result<()> {
        let (new, unfinished) = buffers.with_read_buffers(|received, packets| {
            let new = received.as_ref().map_or(0, |received| received.len());
            match received {
                Some(received) if packets.is_empty() => std::mem::swap(received, packets),
                Some(received) => {
                    packets.extend_from_slice(received);
                    received.clear();
                }
                None => {}
            }
            (new, packets.len())
        });
        self.0.connection.note_io(buffers.io());
        self.0.table.count_received(&self.0.connection, new, unfinished);
        if self.0.connection.cut.is_cancelled() {
            return Err(io::Error::other("this connection holds too many bytes"));
        }
        Ok(())
    }

    fn process_write_buf(&self, buffers: &FilterBuf<'_>) -> io::Result<()> {
        buffers.with_write_buffers(|packets, bytes| packets.move_to(bytes));
        Ok(())
    }
}
