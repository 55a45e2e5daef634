//! What streams share: how many may run, for one client and for all, and the memory that they may hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::access::Caller;

/// What a permit of memory stands for.
const UNIT: u64 = 1 << 20;

/// Places of streams, and mebibytes of cells that they may hold.
#[derive(Debug, Clone)]
pub(super) struct Room {
    streams: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    callers: Callers,
    most_streams: usize,
    most_of_one: usize,
    all_memory: u32,
}

/// How many streams each has who has some.
#[derive(Debug, Clone, Default)]
struct Callers(Arc<Mutex<HashMap<Caller, usize>>>);

impl Callers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for a stream, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    caller: Caller,
    callers: Callers,
    _stream: OwnedSemaphorePermit,
}

/// A stream's share, until it has ended and all of it is on its way.
#[derive(Debug)]
pub(super) struct Share {
    _place: Place,
    _memory: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many streams, of which one client may have so many, that hold so many bytes.
    pub(super) fn new(streams: usize, of_one: usize, memory: u64) -> Self {
        let units = u32::try_from(memory / UNIT).unwrap_or(u32::MAX).max(1);
        // Semaphores count to an eighth of the address space.
        let units = units.min(1 << 28);
        Self {
            streams: Arc::new(Semaphore::new(streams)),
            memory: Arc::new(Semaphore::new(units as usize)),
            callers: Callers::default(),
            most_streams: streams,
            most_of_one: of_one,
            all_memory: units,
        }
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where the client, or all together, have as many as they may.
    pub(super) fn place(&self, caller: Caller) -> Result<Place, Status> {
        let stream = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{} streams are running, and no more are allowed; try again later",
                self.most_streams
            ))
        })?;
        let mut callers = self.callers.lock();
        let running = callers.entry(caller.clone()).or_default();
        if *running >= self.most_of_one {
            return Err(Status::resource_exhausted(format!(
                "{running} streams of yours are running, and no more are allowed; end one first"
            )));
        }
        *running += 1;
        Ok(Place {
            caller,
            callers: self.callers.clone(),
            _stream: stream,
        })
    }

    /// The share of a stream that holds so many bytes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where those are more than there are, or than are left.
    pub(super) fn share(&self, place: Place, bytes: u64) -> Result<Share, Status> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        if units > self.all_memory {
            return Err(Status::resource_exhausted(format!(
                "the windows and minibatches of this stream take about {bytes} bytes, and all streams \
                 together may hold {} MiB",
                self.all_memory
            )));
        }
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        let memory = memory.map_err(|_| {
            let reason = "streams that are running hold the memory; try again later";
            Status::resource_exhausted(reason)
        })?;
        Ok(Share {
            _place: place,
            _memory: memory,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.callers.lock();
        if let Some(running) = callers.get_mut(&self.caller) {
            *running -= 1;
            if *running == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_as_many_streams_as_they_may() {
        let room = Room::new(3, 2, 4 << 20);
        let of = |token: &str| room.place(Caller::Token(token.into()));
        let one = of("a").unwrap();
        let two = of("a").unwrap();
        let refused = of("a").unwrap_err();
        assert!(refused.message().contains("of yours"), "{refused}");
        let three = of("b").unwrap();
        let refused = of("c").unwrap_err();
        assert!(refused.message().starts_with("3 streams"), "{refused}");
        drop(one);
        assert!(of("c").is_ok() && of("a").is_ok());
        drop((two, three));
        assert!(room.callers.lock().is_empty());
    }

    #[test]
    fn streams_share_the_memory() {
        let room = Room::new(9, 9, 4 << 20);
        let share = |bytes: u64| room.share(room.place(Caller::Unknown)?, bytes);
        let first = share(3 << 20).unwrap();
        assert!(share(2 << 20).unwrap_err().message().contains("later"));
        assert!(share(5 << 20).unwrap_err().message().contains("together"));
        drop(first);
        assert!(share(4 << 20).is_ok());
    }
}
