//! Imports point down, and only some modules may name some crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules in order: one may name itself and those of earlier rows; those of one row do not
/// name each other, except where [`MAY_NAME`] says so.
const ORDER: &[&[&str]] = &[
    &["error", "model"],
    &["kernel", "store"],
    &["element"],
    &["functions"],
    &["table", "sink"],
    &["plan"],
    &["session"],
    &["loader"],
    &["ops"],
    &["cluster", "flight"],
    &["cli"],
];

/// Exceptions inside a row.
const MAY_NAME: &[(&str, &str)] = &[("error", "model"), ("model", "error")];

/// Which modules alone may name a crate.
const CRATES: &[(&str, &[&str])] = &[
    ("hdf5", &["store"]),
    ("hdf5_sys", &["store"]),
    ("hdf5_pure", &["store"]),
    ("libdeflater", &["store"]),
    ("zarrs", &["store"]),
    ("zip", &["store"]),
    ("crc32c", &["store"]),
    ("blosc_src", &["store"]),
    ("lz4_sys", &["store"]),
    ("zlib_rs", &["store"]),
    ("zstd", &["store"]),
    ("http_body", &["store", "flight"]),
    ("hyper", &["flight"]),
    ("hyper_util", &["flight"]),
    ("prometheus_client", &["flight"]),
    ("http_body_util", &["flight"]),
    ("base64", &["store", "plan"]),
    // Its types stand in DataFusion's traits, which tables and writers implement.
    ("object_store", &["store", "table", "plan"]),
    ("rand", &["ops", "plan"]),
    ("rand_chacha", &["ops", "plan"]),
    ("rand_distr", &["ops", "plan"]),
    ("arrow_flight", &["flight"]),
    ("tonic", &["flight"]),
    ("tonic_health", &["flight"]),
    ("tonic_prost", &["flight"]),
    ("clap", &["cli"]),
    ("plotters", &["cli"]),
    ("indicatif", &["cli"]),
    ("tracing_subscriber", &["cli"]),
    ("mimalloc", &["main"]),
];

#[test]
fn modules_name_only_those_above_them() {
    let mut wrong = BTreeSet::new();
    for (module, path, line) in code_lines() {
        let Some(rank) = rank_of(&module) else {
            continue;
        };
        for named in named_modules(&line) {
            let allowed = named == module
                || MAY_NAME.contains(&(module.as_str(), named.as_str()))
                || rank_of(&named).is_none_or(|other| other < rank);
            if !allowed {
                wrong.insert(format!("{}: {module} names {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place() {
    for entry in std::fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            rank_of(&name).is_some() || name == "lib" || name == "main",
            "src/{name} has no row in ORDER"
        );
    }
}

#[test]
fn crates_are_named_only_where_they_belong() {
    let mut wrong = BTreeSet::new();
    for (module, path, line) in code_lines() {
        for (name, modules) in CRATES {
            if names_crate(&line, name) && !modules.contains(&module.as_str()) {
                wrong.insert(format!("{}: {module} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn requests_are_made_in_one_place() {
    let here = |path: &Path| path.starts_with("store") && !path.starts_with("store/remote");
    let wrong: BTreeSet<_> = code_lines()
        .into_iter()
        .filter(|(_, path, line)| here(path) && names_crate(line, "object_store"))
        .map(|(_, path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_command_line_prints() {
    const PRINTS: [&str; 6] = [
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "stdout()",
        "stderr()",
    ];
    let mut wrong = BTreeSet::new();
    for (module, path, line) in code_lines() {
        if module != "cli" && PRINTS.iter().any(|p| line.contains(p)) {
            wrong.insert(format!("{}: {}", path.display(), line.trim()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_grows_past_800_lines() {
    let mut lines = BTreeMap::<PathBuf, usize>::new();
    for (_, path, _) in code_lines() {
        *lines.entry(path).or_default() += 1;
    }
    lines.retain(|_, n| *n > 800);
    assert!(lines.is_empty(), "{lines:#?}");
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rank_of(module: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&module))
}

/// Lines of code, with their module and file; comments and tests are left out.
fn code_lines() -> Vec<(String, PathBuf, String)> {
    let mut files = Vec::new();
    collect(&source(), &mut files);
    let mut lines = Vec::new();
    for file in files {
        let relative = file.strip_prefix(source()).unwrap().to_path_buf();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        if relative.ends_with("tests.rs") {
            continue;
        }
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            if !line.trim_start().starts_with("//") {
                lines.push((module.clone(), relative.clone(), line.to_owned()));
            }
        }
    }
    lines
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Modules of this crate that a line names by `crate::name`.
fn named_modules(line: &str) -> Vec<String> {
    line.match_indices("crate::")
        .map(|(at, _)| {
            line[at + "crate::".len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

/// Whether a line names a crate by a path, `use name` or `name::`.
fn names_crate(line: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(&format!("{name}::"))
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside))
        || line.trim() == format!("use {name};")
}
