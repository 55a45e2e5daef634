//! A DataFusion session in which objects are schemas.
//!
//! [`Session::open`] makes the tables of an object known under the object's name; the first one's
//! need no prefix. [`register`] gives functions, `read_anndata` and `STORED AS H5AD` to somebody
//! else's context.

mod builder;
mod open;
mod rows;
mod register;
mod external;
mod read_anndata;
mod shuffle;
mod merge;
mod blocking;
mod stream;
mod guard;
mod hint;

pub use builder::{Session, SessionBuilder};
pub use open::Opened;
pub use register::register;
