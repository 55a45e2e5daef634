//! Names: cells, genes, types.

/// Cell types and genes that mark them; further types have no names of their own.
const TYPES: [(&str, &[&str]); 8] = [
    ("CD4 T", &["CD3D", "CD3E", "IL7R", "CD4", "CCR7"]),
    ("CD14 Monocyte", &["LYZ", "CD14", "S100A8", "S100A9"]),
    ("B", &["MS4A1", "CD79A", "CD79B", "CD19"]),
    ("CD8 T", &["CD3D", "CD3E", "CD8A", "CD8B", "GZMK"]),
    ("NK", &["GNLY", "NKG7", "KLRD1", "PRF1"]),
    ("FCGR3A Monocyte", &["FCGR3A", "MS4A7", "LYZ"]),
    ("Dendritic", &["FCER1A", "CST3", "CLEC10A"]),
    ("Megakaryocyte", &["PPBP", "PF4", "GP9"]),
];

/// Genes of the mitochondrial genome.
pub(super) const MITOCHONDRIAL: [&str; 13] = [
    "MT-ND1", "MT-ND2", "MT-CO1", "MT-CO2", "MT-ATP8", "MT-ATP6", "MT-CO3", "MT-ND3", "MT-ND4L",
    "MT-ND4", "MT-ND5", "MT-ND6", "MT-CYB",
];

const COLORS: [&str; 12] = [
    "#1f77b4", "#ff7f0e", "#279e68", "#d62728", "#aa40fc", "#8c564b", "#e377c2", "#b5bd61",
    "#17becf", "#aec7e8", "#ffbb78", "#98df8a",
];

/// The name of a type.
pub(super) fn cell_type(k: usize) -> String {
    match TYPES.get(k) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("type {k:02}"),
    }
}

/// The colour of a type, as `uns/cell_type_colors` holds it.
pub(super) fn color(k: usize) -> &'static str {
    COLORS[k % COLORS.len()]
}

/// Genes that mark a type by name.
pub(super) fn markers(k: usize) -> &'static [&'static str] {
    TYPES.get(k).map_or(&[], |(_, genes)| genes)
}

/// Names of `n` genes: the known ones, as many as there is room for, then `GENE00042`.
pub(super) fn genes(n: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(n);
    let known = TYPES.iter().flat_map(|(_, genes)| genes.iter());
    for name in known.chain(&MITOCHONDRIAL) {
        if names.len() < n && !names.iter().any(|have| have == name) {
            names.push((*name).to_owned());
        }
    }
    for i in names.len()..n {
        names.push(format!("GENE{i:05}"));
    }
    names
}

/// The barcode of a cell, as sequencers write them: unequal for unequal positions below 2^32.
pub(super) fn barcode(row: u64) -> String {
    const BASES: [u8; 4] = *b"ACGT";
    // An odd factor and a fold of the upper half are each invertible modulo 2^32.
    let low = u32::try_from(row & 0xffff_ffff).unwrap_or_default();
    let mut scrambled = low.wrapping_add(0x5bd1_e995).wrapping_mul(2_654_435_761);
    scrambled ^= scrambled >> 16;
    let mut text = String::with_capacity(18);
    for i in 0..16 {
        let base = (scrambled >> (2 * i)) & 3;
        text.push(char::from(BASES[usize::from(base.to_le_bytes()[0])]));
    }
    text.push_str("-1");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn barcodes_and_genes_are_unique() {
        let barcodes: HashSet<_> = (0..100_000).map(barcode).collect();
        assert_eq!(barcodes.len(), 100_000);
        let names = genes(500);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 500);
        assert_eq!(genes(3).len(), 3);
    }
}
