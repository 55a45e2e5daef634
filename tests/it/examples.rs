//! The examples compile, and are held to the lints but for that of what nothing calls. Here, because as
//! programs of their own each is linked with all of DataFusion; `cargo lint` compiles those.

#![expect(dead_code, reason = "nothing calls the main function of an example")]

#[path = "../../examples/convert.rs"]
mod convert;
#[path = "../../examples/filter.rs"]
mod filter;
#[path = "../../examples/merge.rs"]
mod merge;
#[path = "../../examples/open.rs"]
mod open;
#[path = "../../examples/open_s3.rs"]
mod open_s3;
#[path = "../../examples/shuffle.rs"]
mod shuffle;
#[path = "../../examples/slice.rs"]
mod slice;
#[path = "../../examples/sql.rs"]
mod sql;
#[path = "../../examples/train_flight.rs"]
mod train_flight;
#[path = "../../examples/train_loader.rs"]
mod train_loader;

#[test]
fn every_example_is_here() {
    let here = include_str!("examples.rs");
    for entry in std::fs::read_dir("examples").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let listed = here.contains(&format!("\"../../examples/{name}\""));
        assert!(listed || !name.ends_with(".rs"), "{name} is not compiled");
    }
}
