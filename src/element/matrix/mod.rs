//! Matrices read by rows: sparse by row ([`csr`]), sparse by column ([`csc`], transposed on first
//! use), dense ([`dense`]). `compressed` is what the two sparse layouts share.

mod compressed;
mod csr;
mod csc;
mod transpose;
mod scatter;
mod packed;
mod dense;
mod open;

pub use compressed::CsrArrays;
pub(crate) use compressed::last_pointer;
pub(crate) use dense::DenseMatrix;
pub(crate) use open::open;
