//! Things that several partitions need, each made by the first that asks for it and let go by the last.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Numbered things that are shared while there are some that still need them.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    slots: Arc<Mutex<Vec<Slot<T>>>>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Arc<OnceCell<Arc<T>>>,
    /// Who is done with it.
    done: BTreeSet<usize>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            value: Arc::default(),
            done: BTreeSet::new(),
        }
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            slots: Arc::default(),
        }
    }
}

impl<T> Shared<T> {
    /// The thing of this number, made where nobody has, and what lets it go when it is dropped: `user`
    /// is one of so many that need it.
    ///
    /// # Errors
    /// Those of `make`; the next that asks tries again.
    pub(crate) async fn get<E>(
        &self,
        number: usize,
        (user, users): (usize, usize),
        make: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<(Arc<T>, Lease<T>), E> {
        let lease = Lease {
            slots: Arc::clone(&self.slots),
            number,
            user,
            users,
        };
        let value = with(&self.slots, number, |slot| Arc::clone(&slot.value));
        let value = value
            .get_or_try_init(|| async { make().await.map(Arc::new) })
            .await?;
        Ok((Arc::clone(value), lease))
    }
}

/// A need of something shared.
#[derive(Debug)]
pub(crate) struct Lease<T> {
    slots: Arc<Mutex<Vec<Slot<T>>>>,
    number: usize,
    user: usize,
    users: usize,
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let (user, users) = (self.user, self.users);
        with(&self.slots, self.number, |slot| {
            slot.done.insert(user);
            if slot.done.len() >= users {
                *slot = Slot::default();
            }
        });
    }
}

fn with<T, R>(
    slots: &Mutex<Vec<Slot<T>>>,
    number: usize,
    change: impl FnOnce(&mut Slot<T>) -> R,
) -> R {
    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
    if slots.len() <= number {
        slots.resize_with(number + 1, Slot::default);
    }
    change(&mut slots[number])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_shared_is_made_once_and_let_go_by_the_last() {
        let shared: Shared<String> = Shared::default();
        let made = |text: &'static str| async move || Ok::<_, ()>(text.to_owned());
        let (first, lease) = shared.get(3, (0, 2), made("a")).await.unwrap();
        drop(lease);
        // Who comes twice is one.
        let (again, lease) = shared.get(3, (0, 2), made("b")).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        drop(lease);
        let (again, lease) = shared.get(3, (1, 2), made("b")).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        drop(lease);
        let (new, _) = shared.get(3, (1, 2), made("c")).await.unwrap();
        assert_eq!(new.as_str(), "c");
        let failed = shared.get(4, (0, 1), async || Err(5)).await;
        assert_eq!(failed.err(), Some(5));
    }
}
