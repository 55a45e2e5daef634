//! Integration tests, in one binary so that DataFusion is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    reason = "a test that cannot go on fails; one that is skipped says so"
)]

mod support;
mod h5_write;
mod h5_layouts;
mod h5_read;
mod element_broken;
mod element_read;
mod examples;
mod flight;
mod fuzz;
mod memory;
mod merge;
mod layering;
mod loader;
mod ops;
mod remote;
mod shuffle;
mod sink;
mod tables;
mod zarr_write;
mod zarr_broken;

/// Where the shared test data is, if it is here: `ANNFUSION_SHARED`, else beside the checkout.
/// Says so visibly where it is not.
pub fn shared(what: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var_os("ANNFUSION_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        std::path::PathBuf::from,
    );
    let path = root.join(what);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("SKIPPED: {} is not here", path.display());
        None
    }
}

/// Every object of `shared/data/found` and `shared/data/encodings`, by name: files, zarr folders and
/// archives, what stands in groups of them included; empty where the data is not here.
pub fn shared_objects() -> Vec<String> {
    let mut objects = Vec::new();
    for folder in ["data/found", "data/encodings"] {
        let Some(folder) = shared(folder) else {
            continue;
        };
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for path in names {
            let text = path.to_str().unwrap().to_owned();
            if text.ends_with(".h5ad") {
                objects.push(text);
            } else if text.ends_with(".h5mu") || text.contains("mudata") {
                objects.extend(["mod1", "mod2"].map(|m| format!("{text}#mod/{m}")));
            } else if text.ends_with("collection.zarr") {
                objects.extend((0..3).map(|i| format!("{text}#dataset_{i}")));
            } else if text.ends_with(".zarr") || text.ends_with(".zarr.zip") {
                objects.push(text);
            }
        }
    }
    objects
}
