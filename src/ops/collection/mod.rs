//! Collections for training: cells of any objects in random order, dealt out to datasets of about
//! equal size.
//!
//! The layout and the defaults are annbatch's (`DatasetCollection` of 0.3.1), whose loader reads what
//! [`create()`] and [`add()`] write. [`blocks`] says which cells go into which dataset, [`datasets`] makes
//! the plan:
//!
//! ```text
//!   WriteExec collection=out.zarr
//!     UnionExec                                    a partition per dataset
//!       ShuffleExec ◄── MergeExec ◄── scans of the blocks of dataset 0
//!       ShuffleExec ◄── MergeExec ◄── scans of the blocks of dataset 1
//! ```
//! An exact shuffle is one `ShuffleExec` over the whole merge, with a partition per dataset. [`groups`]
//! says which cells are to stay together in a dataset.

mod blocks;
mod datasets;
mod groups;
mod create;
mod add;
mod info;
mod options;

pub use add::add;
pub use create::create;
pub use info::{CollectionInfo, DatasetInfo, info};
pub use options::{CollectionOptions, CollectionOrder};
