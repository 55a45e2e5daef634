//! Elements of several objects one after another, as elements of one: what a collection is read by.
//!
//! Nothing is converted but codes of categoricals, whose sets may differ between members: who writes a
//! part of an object leaves out the categories that the part does not have.

mod absent;
mod column;
mod matrix;
mod unify;

pub(super) use absent::AbsentColumn;
pub(super) use column::stacked;
pub(super) use matrix::StackedMatrix;
