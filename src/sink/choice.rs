//! How an object shall be stored, as far as a user says it.

use crate::element::{Amount, Storage};
use crate::error::{Error, Result};
use crate::store::{Compression, Format, ZarrVersion};

/// What a user says of storage, as on a command line; what is not said is the format's default.
#[derive(Debug, Clone, Default)]
pub struct StorageChoice {
    /// One of [`COMPRESSIONS`](Self::COMPRESSIONS).
    pub compression: Option<String>,
    /// The level of the compression.
    pub level: Option<u8>,
    /// Zarr's version, 2 or 3.
    pub zarr_version: Option<u8>,
    /// Whether zarr's chunks are kept in shards.
    pub sharded: Option<bool>,
    /// Cells of a chunk.
    pub chunk_size: Option<Amount>,
    /// Cells of a shard.
    pub shard_size: Option<Amount>,
    /// Whether everything else is as annbatch has it.
    pub annbatch: bool,
}

impl StorageChoice {
    /// Names of compressions.
    pub const COMPRESSIONS: [&str; 6] = ["none", "zstd", "blosc-lz4", "blosc-zstd", "gzip", "lzf"];

    /// The storage in a format whose version and shards are still open.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where the choices exclude each other, or the format.
    pub fn in_format(&self, format: Format) -> Result<Storage> {
        let format = self.format(format)?;
        let mut storage = Storage::of(format);
        if self.annbatch {
            storage = annbatch(format)?;
        }
        if let Some(name) = &self.compression {
            storage.compression = compression(name, self.level)?;
        } else if let Some(level) = self.level {
            storage.compression = match storage.compression {
                Compression::Zstd(_) => compression("zstd", Some(level))?,
                Compression::BloscLz4(_) => compression("blosc-lz4", Some(level))?,
                _ => {
                    return Err(Error::option(
                        "level",
                        "a compression must be named with it",
                    ));
                }
            };
        }
        check(format, storage.compression)?;
        if format == Format::H5ad && (self.chunk_size.or(self.shard_size)).is_some() {
            return Err(Error::option(
                "chunk size",
                "chunks of an h5ad are sized by its writer; zarr's can be chosen",
            ));
        }
        if self.shard_size.is_some() && !matches!(format, Format::Zarr { sharded: true, .. }) {
            return Err(Error::option(
                "shard size",
                "there are no shards without sharding",
            ));
        }
        match (self.chunk_size, self.shard_size) {
            (Some(Amount::Cells(chunk)), Some(Amount::Cells(shard)))
            | (Some(Amount::Bytes(chunk)), Some(Amount::Bytes(shard)))
                if shard < chunk =>
            {
                return Err(Error::option(
                    "shard size",
                    format!("a shard of {shard} holds no chunk of {chunk}"),
                ));
            }
            _ => {}
        }
        if let Some(chunk) = self.chunk_size {
            storage.cells.chunk = Some(chunk);
        }
        if let Some(shard) = self.shard_size {
            storage.cells.shard = Some(shard);
        }
        Ok(storage)
    }

    fn format(&self, format: Format) -> Result<Format> {
        let Format::Zarr { version, sharded } = format else {
            let said = self.zarr_version.is_some() || self.sharded.is_some() || self.annbatch;
            return match said {
                true => Err(Error::option(
                    "zarr",
                    "an h5ad has no zarr version, shards or layout; the output must end in .zarr",
                )),
                false => Ok(format),
            };
        };
        let version = match self.zarr_version {
            None => version,
            Some(2) => ZarrVersion::V2,
            Some(3) => ZarrVersion::V3,
            Some(other) => {
                return Err(Error::option(
                    "zarr version",
                    format!("{other} is neither 2 nor 3"),
                ));
            }
        };
        let sharded = match (version, self.sharded) {
            (ZarrVersion::V2, Some(true)) => {
                return Err(Error::option("shards", "zarr has them since version 3"));
            }
            (ZarrVersion::V2, _) => false,
            (ZarrVersion::V3, said) => said.unwrap_or(sharded),
        };
        Ok(Format::Zarr { version, sharded })
    }
}

/// The storage of annbatch's stores.
fn annbatch(format: Format) -> Result<Storage> {
    match format == Format::ZARR {
        true => Ok(Storage::annbatch()),
        false => Err(Error::option(
            "layout",
            "annbatch's stores are zarr of version 3 with shards",
        )),
    }
}

/// The compression of a name and a level.
fn compression(name: &str, level: Option<u8>) -> Result<Compression> {
    let bad = |reason: String| Error::option("compression", reason);
    let within = |least: u8, most: u8, default: u8| match level {
        None => Ok(default),
        Some(level) if (least..=most).contains(&level) => Ok(level),
        Some(level) => Err(bad(format!(
            "{name} has levels from {least} to {most}, not {level}"
        ))),
    };
    Ok(match name.to_ascii_lowercase().as_str() {
        "none" | "lzf" if level.is_some() => return Err(bad(format!("{name} has no levels"))),
        "none" => Compression::None,
        "lzf" => Compression::Lzf,
        "gzip" => Compression::Gzip(within(1, 9, 4)?),
        "zstd" => Compression::Zstd(within(0, 22, 0)?),
        "blosc-lz4" => Compression::BloscLz4(within(0, 9, 5)?),
        "blosc-zstd" => Compression::BloscZstd(within(0, 9, 5)?),
        _ => {
            return Err(bad(format!(
                "'{name}' is none of {}",
                StorageChoice::COMPRESSIONS.join(", ")
            )));
        }
    })
}

/// Whether a format has a compression.
fn check(format: Format, compression: Compression) -> Result<()> {
    let (has, known) = match format {
        Format::H5ad => (
            matches!(
                compression,
                Compression::None | Compression::Gzip(_) | Compression::Lzf
            ),
            "none, gzip and lzf",
        ),
        Format::Zarr { .. } => (
            compression != Compression::Lzf,
            "none, zstd, blosc-lz4, blosc-zstd and gzip",
        ),
    };
    match has {
        true => Ok(()),
        false => Err(Error::option(
            "compression",
            format!(
                ".{} has {known}, not {}",
                format.ending(),
                compression.name()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_exclude_each_other_are_refused() {
        let choice = |compression: &str| StorageChoice {
            compression: Some(compression.to_owned()),
            ..StorageChoice::default()
        };
        assert!(choice("zstd").in_format(Format::H5ad).is_err());
        assert!(choice("lzf").in_format(Format::ZARR).is_err());
        assert_eq!(
            choice("gzip").in_format(Format::H5ad).unwrap().compression,
            Compression::Gzip(4)
        );
        let v2 = StorageChoice {
            zarr_version: Some(2),
            ..StorageChoice::default()
        };
        assert!(v2.in_format(Format::H5ad).is_err());
        let cut = |chunk, shard| StorageChoice {
            chunk_size: Some(Amount::Cells(chunk)),
            shard_size: Some(Amount::Cells(shard)),
            ..StorageChoice::default()
        };
        assert!(cut(64, 64).in_format(Format::ZARR).is_ok());
        let refused = cut(64, 32).in_format(Format::ZARR).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("a shard of 32 holds no chunk of 64")
        );
        let format = v2.in_format(Format::ZARR).unwrap().format;
        let version = ZarrVersion::V2;
        assert_eq!(
            format,
            Format::Zarr {
                version,
                sharded: false
            }
        );
    }
}
