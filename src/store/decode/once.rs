//! What is read once and kept.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::fault::Fault;

/// A value that is made with its first use. What is wrong with the bytes is kept as well; that they
/// could not be had is not, since the next attempt may do better.
#[derive(Debug)]
pub(in crate::store) struct Once<T> {
    value: OnceLock<Result<T, String>>,
    making: Mutex<()>,
}

impl<T> Once<T> {
    pub(in crate::store) fn new() -> Self {
        Self {
            value: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    /// The value, made by the first that asks while others wait.
    ///
    /// # Errors
    /// Those of `make`; the first one's to everybody, unless it is [`Fault::Io`].
    pub(in crate::store) fn get_or_make(
        &self,
        make: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<&T, Fault> {
        if self.value.get().is_none() {
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            if self.value.get().is_none() {
                let made = match make() {
                    Err(Fault::Io(error)) => return Err(Fault::Io(error)),
                    made => made.map_err(|fault| fault.to_string()),
                };
                // Nobody else makes one meanwhile.
                let _ = self.value.set(made);
            }
        }
        match self.value.get() {
            Some(Ok(value)) => Ok(value),
            Some(Err(reason)) => Err(Fault::Corrupt(reason.clone())),
            None => Err(Fault::Corrupt("nothing was made".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_to_get_bytes_are_forgotten() {
        let once = Once::new();
        let lost = || Err(Fault::Io(std::io::Error::other("lost")));
        assert!(once.get_or_make(lost).is_err());
        assert_eq!(*once.get_or_make(|| Ok(1)).unwrap(), 1);
        assert_eq!(*once.get_or_make(|| Ok(2)).unwrap(), 1);
        let once = Once::<u8>::new();
        let corrupt = || Err(Fault::Corrupt("bad".into()));
        assert!(once.get_or_make(corrupt).is_err());
        assert!(once.get_or_make(|| Ok(1)).is_err());
    }
}
