//! `--genes FILE|LIST`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::shown;

/// Names of genes: the lines of a file (or the first column of a `.csv` or `.tsv`), or a list
/// separated by commas.
///
/// # Errors
/// [`Error::InvalidOption`] where the file cannot be read or no name is left.
pub(super) fn read_genes(text: &str) -> Result<Vec<String>> {
    let path = Path::new(text);
    let names: Vec<String> = if path.is_file() {
        let content = std::fs::read_to_string(path)
            .map_err(|e| Error::option("--genes", format!("cannot read {}: {e}", shown(text))))?;
        let separator = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Some(','),
            Some("tsv") => Some('\t'),
            _ => None,
        };
        content
            .lines()
            .map(|line| match separator {
                Some(separator) => line.split(separator).next().unwrap_or(line),
                None => line,
            })
            .map(|name| name.trim().trim_matches('"').to_owned())
            .filter(|name| !name.is_empty() && !name.starts_with('#'))
            .collect()
    } else if text.contains('/')
        || (text.contains('.')
            && Path::new(text)
                .extension()
                .is_some_and(|e| e == "txt" || e == "csv" || e == "tsv"))
    {
        return Err(Error::option("--genes", format!("no file {}", shown(text))));
    } else {
        text.split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    };
    if names.is_empty() {
        return Err(Error::option("--genes", format!("{text:?} names no gene")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_or_the_lines_of_a_file() {
        assert_eq!(read_genes("CD3D, MS4A1").unwrap(), ["CD3D", "MS4A1"]);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"# markers\nCD3D\n\nMS4A1\n").unwrap();
        assert_eq!(
            read_genes(file.path().to_str().unwrap()).unwrap(),
            ["CD3D", "MS4A1"]
        );
        assert!(read_genes("missing/genes.txt").is_err());
        assert!(read_genes(",").is_err());
    }
}
