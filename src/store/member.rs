//! A store inside of a store, as one of its groups.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ArrayReader, ArraySpec, ArrayWriter, Attributes, StoreWriter};
use crate::error::Result;
use crate::model::ElementKey;

/// What is written to it goes below a group of another store, which is closed and gets its name as a
/// whole: closing or committing the member does neither.
#[derive(Debug)]
struct Member {
    whole: Arc<dyn StoreWriter>,
    group: ElementKey,
    url: String,
}

/// Makes a group at the root of `whole`, which is the root of what is written to the member.
///
/// # Errors
/// [`Error::Store`](crate::Error::Store) where the group cannot be made.
pub(crate) async fn member(
    whole: &Arc<dyn StoreWriter>,
    name: &str,
) -> Result<Arc<dyn StoreWriter>> {
    let group = ElementKey::root().child(name);
    whole.create_group(&group, &Attributes::new()).await?;
    Ok(Arc::new(Member {
        url: format!("{}/{name}", whole.url()),
        whole: Arc::clone(whole),
        group,
    }))
}

impl Member {
    fn key(&self, key: &ElementKey) -> ElementKey {
        match key.as_str() {
            "" => self.group.clone(),
            key => self.group.child(key),
        }
    }
}

#[async_trait]
impl StoreWriter for Member {
    fn url(&self) -> &str {
        &self.url
    }

    async fn create_group(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        self.whole.create_group(&self.key(key), attributes).await
    }

    async fn set_attributes(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        self.whole.set_attributes(&self.key(key), attributes).await
    }

    async fn create_array(
        &self,
        key: &ElementKey,
        spec: ArraySpec,
    ) -> Result<Box<dyn ArrayWriter>> {
        self.whole.create_array(&self.key(key), spec).await
    }

    async fn link(
        &self,
        key: &ElementKey,
        source: &dyn ArrayReader,
        attributes: &Attributes,
    ) -> Result<bool> {
        self.whole.link(&self.key(key), source, attributes).await
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    async fn commit(&self) -> Result<()> {
        Ok(())
    }
}
