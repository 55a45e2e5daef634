//! Memory of what is on its way to object stores, of the whole process.
//!
//! Bytes that [wait](Waiting) to be a part are counted and never waited for: whoever collects them
//! cannot give them back before the part is full. Who [sends](Waiting::send) waits for requests to
//! end, which end by themselves, so some object can always go on.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes that wait or are on their way at most, as long as what waits leaves room.
pub(crate) const ROOM_BYTES: usize = 64 << 20;

static ROOM: Room = Room {
    held: Mutex::new(Held {
        waiting: 0,
        sent: 0,
    }),
    changed: Condvar::new(),
};

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    held: Mutex<Held>,
    changed: Condvar,
}

/// Bytes, by where they are.
#[derive(Debug)]
struct Held {
    waiting: usize,
    sent: usize,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all who wait look again whether they still want to.
    pub(super) fn look() {
        // With the lock, so that nobody is between looking and waiting.
        let held = ROOM.lock();
        ROOM.changed.notify_all();
        drop(held);
    }
}

/// Bytes of an object that are no whole part yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<u8>);

impl Waiting {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds some.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        ROOM.lock().waiting += bytes.len();
        self.0.extend_from_slice(bytes);
    }

    /// Takes them to be sent, once there is room; `check` says whether to go on waiting.
    ///
    /// # Errors
    /// Those of `check`.
    pub(super) fn send(&mut self, check: impl Fn() -> io::Result<()>) -> io::Result<(Bytes, Sent)> {
        let len = self.0.len();
        let mut held = ROOM.lock();
        while held.sent > 0 && held.sent + held.waiting > ROOM_BYTES {
            check()?;
            held = ROOM
                .changed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
        held.waiting -= len;
        held.sent += len;
        drop(held);
        Ok((std::mem::take(&mut self.0).into(), Sent(len)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        ROOM.lock().waiting -= self.0.len();
        Room::look();
    }
}

/// Bytes on their way, until this is dropped.
#[derive(Debug)]
pub(super) struct Sent(usize);

impl Drop for Sent {
    fn drop(&mut self) {
        ROOM.lock().sent -= self.0;
        Room::look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_there_is_room_for_goes_on_one_by_one() {
        let fine = || Ok(());
        let mut all: Vec<Waiting> = (0..12).map(|_| Waiting::default()).collect();
        let part = vec![0; 8 << 20];
        all.iter_mut().for_each(|waiting| waiting.extend(&part));
        for waiting in &mut all {
            let (bytes, sent) = waiting.send(fine).unwrap();
            assert_eq!((bytes.len(), waiting.len()), (part.len(), 0));
            drop(sent);
        }
        // Beside one that is on its way there is no room for another: who waits can give up.
        let (_, _sent) = {
            all[0].extend(&part);
            all[0].send(fine).unwrap()
        };
        all.iter_mut().for_each(|waiting| waiting.extend(&part));
        let stop = || Err(io::Error::other("stopped"));
        assert!(all[1].send(stop).is_err());
    }
}
