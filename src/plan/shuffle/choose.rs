//! Which way a shuffle goes.

use super::spec::ShuffleWay;
use crate::element::{scratch_folder, scratch_space};
use crate::error::{Error, Result};
use crate::kernel::Blocks;
use crate::table::RowWeight;

/// Rows that have to fit in memory at least, for each partition that is read at a time.
const LEAST_ROWS: u64 = 64;
/// Bytes that order a row which is held.
pub(super) const ROW_BYTES: u64 = 40;
/// The same where it is read straight to its place: of one matrix at a time its entries' places, in
/// what is asked for, by chunk, and by where they go.
const PLACE_BYTES: u64 = 140;
/// Bytes a second of a copy out of the page cache, and of pages that are used for the first time, on two
/// cores of 2.6 GHz.
const READ: f64 = 3e9;
const TOUCH: f64 = 7e8;
/// Seconds of a read of a few kilobytes, of one core of two.
const SEEK: f64 = 6e-7;
/// Windows of a direct gather: larger ones spare little, smaller ones read neighbours twice.
const GATHER_WINDOW: u64 = 32 << 20;

/// What is known of the rows before they are read.
#[derive(Debug, Clone, Copy)]
pub struct ShuffleInput {
    /// Rows.
    pub rows: u64,
    /// What a row weighs.
    pub weight: RowWeight,
    /// Objects that scans read them from. Of one, a scan gives them in the order; of several, scans give
    /// each window's.
    pub scanned: u64,
    /// Partitions of the output.
    pub partitions: u64,
    /// Rows of the tables that they are of.
    pub table_rows: u64,
}

impl ShuffleInput {
    /// Whether a way of these rows is up to the scan, which puts them where they belong as it reads.
    /// Windows of many rows are only so where what that takes is kept, and no matrix has to be moved.
    pub(super) fn in_scan(&self, way: ShuffleWay, memory: ShuffleMemory) -> bool {
        let kept = self.held() <= memory.bytes / 4 && self.weight.moved == 0;
        match way {
            ShuffleWay::Gather => self.scanned == 1,
            ShuffleWay::InMemory | ShuffleWay::Passes => self.scanned == 1 && kept,
            ShuffleWay::Scatter => false,
        }
    }

    /// Whether scans give the rows of each window by themselves, to be put in order together.
    pub(super) fn by_window(&self, way: ShuffleWay) -> bool {
        way == ShuffleWay::Gather && self.scanned > 1
    }

    /// Bytes of what a scan keeps of all rows of the table.
    fn held(&self) -> u64 {
        self.table_rows.saturating_mul(self.weight.held)
    }

    /// Bytes of a row in memory, with what is held to order it.
    pub(super) fn row_bytes(&self, way: ShuffleWay, memory: ShuffleMemory) -> u64 {
        let order = match self.in_scan(way, memory) {
            true => PLACE_BYTES,
            false => ROW_BYTES,
        };
        self.weight.bytes.saturating_add(order)
    }

    /// Bytes of all rows in memory, with what is held to order them.
    fn bytes(&self, way: ShuffleWay, memory: ShuffleMemory) -> u64 {
        let rows = self.rows.saturating_mul(self.row_bytes(way, memory));
        match self.in_scan(way, memory) {
            true => rows.saturating_add(self.held()),
            false => rows,
        }
    }
}

/// What a shuffle may take.
#[derive(Debug, Clone, Copy)]
pub struct ShuffleMemory {
    /// Bytes of rows that may be in memory.
    pub bytes: u64,
    /// Partitions that are read at a time.
    pub at_a_time: u64,
    /// What of the limit is for the program itself; of the rest a shuffle may take half.
    pub beside: u64,
}

impl ShuffleMemory {
    /// A message that names the least limit that would do.
    fn too_little(self, what: &str, needed: u64) -> Error {
        let limit = needed.saturating_mul(2).saturating_add(self.beside);
        Error::option(
            "--memory-limit",
            format!(
                "{what} take {}, and a shuffle may hold {}; the least limit that will do is {}",
                megabytes(needed),
                megabytes(self.bytes),
                megabytes(limit.div_ceil(100_000) * 100_000)
            ),
        )
    }
}

/// A way, and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShuffleChoice {
    /// The way.
    pub way: ShuffleWay,
    /// Why.
    pub reason: String,
    /// Bytes of the rows of a window.
    pub window_bytes: u64,
    /// Bytes of columns that a scan which does it may keep.
    pub held_bytes: u64,
}

/// Chooses the cheapest way that the memory allows, or takes the one asked for.
///
/// # Errors
/// [`Error::InvalidOption`] where not even 64 rows fit, where the way asked for needs more memory or
/// another input, or where the folder of temporary files has no room for the only way left.
pub fn choose(
    input: &ShuffleInput,
    memory: ShuffleMemory,
    asked: Option<ShuffleWay>,
) -> Result<ShuffleChoice> {
    let least = LEAST_ROWS
        .saturating_mul(input.weight.bytes)
        .saturating_mul(4 * memory.at_a_time.max(1));
    if least > memory.bytes {
        return Err(memory.too_little("64 rows at a time", least));
    }
    if let Some(way) = asked {
        let cost = cost(way, input, memory);
        return match cost {
            Ok(_) => Ok(chosen(way, "as asked for".to_owned(), input, memory)),
            Err(reason) => Err(reason),
        };
    }
    let mut best: Option<(f64, ShuffleWay)> = None;
    let mut refused = None;
    for way in ShuffleWay::ALL {
        match cost(way, input, memory) {
            Ok(cost) if best.is_none_or(|(least, _)| cost < least) => best = Some((cost, way)),
            Ok(_) => {}
            Err(reason) => refused = Some(reason),
        }
    }
    match (best, refused) {
        (Some((_, way)), _) => Ok(chosen(way, reason(way, input, memory), input, memory)),
        (None, Some(reason)) => Err(reason),
        (None, None) => Err(Error::option(
            "way",
            "there is no way to shuffle these rows",
        )),
    }
}

/// The windows of a block shuffle: as many blocks as 16 MiB hold, and 16 at least. They depend on the
/// rows alone, so that the order does.
pub(super) fn blocks(rows: u64, weight: RowWeight) -> Blocks {
    const WINDOW: u64 = 16 << 20;
    let block = rows.saturating_mul(weight.bytes).max(1);
    Blocks {
        rows,
        per_window: (WINDOW / block).max(16),
    }
}

/// The one way of a block shuffle: each window's blocks are read, and put in order.
///
/// # Errors
/// [`Error::InvalidOption`] where a window does not fit, the rows are of several objects, or another
/// way is asked for.
pub(super) fn in_blocks(
    input: &ShuffleInput,
    blocks: Blocks,
    memory: ShuffleMemory,
) -> Result<ShuffleChoice> {
    if input.scanned != 1 {
        let reason = "blocks of several objects are not shuffled together; merge them first";
        return Err(Error::option("mode", reason));
    }
    let rows = blocks
        .rows
        .saturating_mul(blocks.per_window)
        .min(input.rows);
    let window = rows.saturating_mul(input.weight.bytes);
    let least = window.saturating_mul(2 * memory.at_a_time.max(1));
    if least > memory.bytes {
        return Err(memory.too_little("windows of blocks", least));
    }
    let reason = format!(
        "blocks of {}, {} in a window",
        blocks.rows, blocks.per_window
    );
    let choice = chosen(ShuffleWay::Gather, reason, input, memory);
    Ok(ShuffleChoice {
        window_bytes: window,
        held_bytes: choice.held_bytes.min(memory.bytes - least),
        ..choice
    })
}

fn chosen(
    way: ShuffleWay,
    reason: String,
    input: &ShuffleInput,
    memory: ShuffleMemory,
) -> ShuffleChoice {
    let held_bytes = match input.in_scan(way, memory) || input.by_window(way) {
        true => input.held().min(memory.bytes / 4),
        false => 0,
    };
    let beside_held = ShuffleMemory {
        bytes: memory.bytes - held_bytes,
        ..memory
    };
    ShuffleChoice {
        way,
        reason,
        held_bytes,
        window_bytes: match way {
            ShuffleWay::InMemory => beside_held.bytes,
            ShuffleWay::Gather if input.by_window(way) => window_bytes(beside_held),
            // A batch is gathered while the window is there, so windows count for a little more.
            ShuffleWay::Gather => {
                let each = beside_held.bytes / memory.at_a_time.max(1);
                (each / 5 * 4).min(GATHER_WINDOW)
            }
            ShuffleWay::Passes => passes_bytes(input, memory),
            ShuffleWay::Scatter => window_bytes(memory),
        },
    }
}

/// Bytes of a window that rows go through on their way: each partition that is read holds one, and
/// one is made while the last is written.
fn window_bytes(memory: ShuffleMemory) -> u64 {
    memory.bytes / memory.at_a_time.max(1).saturating_add(1)
}

/// Bytes of a window of passes. Where the input is not compressed, reading what lies between a window's
/// rows costs less than a read for each of them while they lie close together: windows are then no
/// larger than that asks for.
fn passes_bytes(input: &ShuffleInput, memory: ShuffleMemory) -> u64 {
    if !input.in_scan(ShuffleWay::Passes, memory) {
        return window_bytes(memory);
    }
    // Where a window has as many partitions as are read at a time, no more than two windows have some
    // of those.
    let half = (memory.bytes - input.held()) / 2;
    let all = input.bytes(ShuffleWay::Passes, memory);
    let partition = all / input.partitions.max(1);
    let most = match half / memory.at_a_time.max(1) >= partition {
        true => half,
        false => window_bytes(memory),
    };
    if !input.weight.random {
        return most;
    }
    let row = float(input.weight.bytes) / float(input.weight.arrays.max(1));
    let windows = ((SEEK * READ) / row.max(1.0)).clamp(1.0, 3.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 3"
    )]
    let windows = windows as u64;
    all.div_ceil(windows).max(GATHER_WINDOW).min(most)
}

/// How many such windows the rows fill.
fn windows(input: &ShuffleInput, memory: ShuffleMemory) -> u64 {
    let all = input.bytes(ShuffleWay::Passes, memory);
    all.div_ceil(passes_bytes(input, memory).max(1)).max(1)
}

/// Parts of rows that lie by themselves.
fn pieces(input: &ShuffleInput) -> f64 {
    float(input.rows.saturating_mul(input.weight.arrays))
}

/// Seconds that a way takes, by rates measured on two cores of 2.6 GHz.
fn cost(way: ShuffleWay, input: &ShuffleInput, memory: ShuffleMemory) -> Result<f64> {
    /// Bytes a second.
    const DECODE: f64 = 5e8;
    let bytes = input.bytes(way, memory);
    let once = float(bytes) / if input.weight.random { READ } else { DECODE };
    match way {
        ShuffleWay::InMemory if bytes > memory.bytes => Err(memory.too_little("all rows", bytes)),
        ShuffleWay::InMemory => Ok(once + float(bytes) / TOUCH),
        ShuffleWay::Gather if input.scanned == 0 => Err(Error::option(
            "way",
            "rows that are not of objects are not gathered where they lie",
        )),
        ShuffleWay::Gather if input.by_window(way) => {
            // What is compressed is undone for each window. Rows are read, and then put in order.
            let window = bytes.min(chosen(way, String::new(), input, memory).window_bytes);
            let read = match input.weight.random {
                true => once + SEEK * pieces(input),
                false => once * float(bytes.div_ceil(window.max(1)).max(1)),
            };
            Ok(read + float(bytes) / READ + float(window) / TOUCH)
        }
        ShuffleWay::Gather if input.weight.random => {
            Ok(once + SEEK * pieces(input) + float(GATHER_WINDOW) / TOUCH)
        }
        ShuffleWay::Gather => {
            // What has to be decoded is decoded for each window, of which every partition has one. Of
            // one alone all rows would be held as well.
            let window = chosen(way, String::new(), input, memory).window_bytes;
            let windows = bytes.div_ceil(window.max(1)).max(memory.at_a_time);
            Ok(once * float(windows.max(2)))
        }
        ShuffleWay::Passes => {
            let window = bytes.min(passes_bytes(input, memory));
            let read = once * float(windows(input, memory));
            // Rows are read one by one where that is cheaper.
            let read = match input.in_scan(way, memory) && input.weight.random {
                true => read.min(once + SEEK * pieces(input)),
                false => read,
            };
            Ok(read + float(window) / TOUCH)
        }
        ShuffleWay::Scatter => match scratch_space() {
            Some(space) if space < bytes => Err(Error::option(
                "--tmpdir",
                format!(
                    "{} has {} left, and the rows take {}",
                    scratch_folder().display(),
                    megabytes(space),
                    megabytes(bytes)
                ),
            )),
            _ => Ok(once + 2.5 * float(bytes) / TOUCH),
        },
    }
}

fn reason(way: ShuffleWay, input: &ShuffleInput, memory: ShuffleMemory) -> String {
    let bytes = input.bytes(way, memory);
    let (rows, room) = (megabytes(bytes), megabytes(memory.bytes));
    match way {
        ShuffleWay::InMemory => format!("the rows take {rows} of {room}"),
        ShuffleWay::Gather if input.weight.random => {
            format!("the rows take {rows} and are not compressed")
        }
        ShuffleWay::Gather => format!("the rows take {rows} of {room}"),
        ShuffleWay::Passes if input.weight.random && input.in_scan(way, memory) => {
            let times = windows(input, memory);
            format!("the rows take {rows} and are not compressed: read in {times} windows")
        }
        ShuffleWay::Passes => {
            let times = windows(input, memory);
            format!("the rows take {rows}, more than fit in {room}: read {times} times")
        }
        ShuffleWay::Scatter => {
            format!("the rows take {rows}, more than fit in {room}: read once, through a file")
        }
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(rows: u64, row_bytes: u64, random: bool, limit: u64) -> ShuffleWay {
        let input = ShuffleInput {
            rows,
            weight: RowWeight {
                bytes: row_bytes,
                arrays: 2,
                random,
                ..RowWeight::default()
            },
            scanned: 1,
            partitions: 20,
            table_rows: 0,
        };
        let memory = ShuffleMemory {
            bytes: limit << 20,
            at_a_time: 2,
            beside: 0,
        };
        choose(&input, memory, None).unwrap().way
    }

    #[test]
    fn the_way_follows_from_size_limit_and_layout() {
        assert_eq!(way(3_000, 2_000, false, 64), ShuffleWay::InMemory);
        assert_eq!(way(1_000_000, 5_200, true, 256), ShuffleWay::Gather);
        // Short rows lie close together.
        assert_eq!(way(200_000, 800, true, 448), ShuffleWay::Passes);
        assert_eq!(way(200_000, 1_700, false, 448), ShuffleWay::InMemory);
        assert_eq!(way(1_000_000, 5_200, false, 256), ShuffleWay::Scatter);
        // Three passes cost more than a file, where there is room for one.
        assert_eq!(way(100_000, 1_700, false, 160), ShuffleWay::Scatter);
    }

    #[test]
    fn rows_of_several_objects_are_gathered_unless_they_are_compressed() {
        let way = |random| {
            let input = ShuffleInput {
                rows: 100_000,
                weight: RowWeight {
                    bytes: 11_000,
                    arrays: 2,
                    random,
                    ..RowWeight::default()
                },
                scanned: 20,
                partitions: 1,
                table_rows: 100_000,
            };
            let memory = ShuffleMemory {
                bytes: 200 << 20,
                at_a_time: 1,
                beside: 0,
            };
            choose(&input, memory, None).unwrap().way
        };
        assert_eq!(way(true), ShuffleWay::Gather);
        assert_eq!(way(false), ShuffleWay::Scatter);
    }

    #[test]
    fn windows_of_all_partitions_that_are_read_fit_together() {
        let input = ShuffleInput {
            rows: 60_000,
            weight: RowWeight {
                bytes: 8_000,
                arrays: 1,
                random: false,
                ..RowWeight::default()
            },
            scanned: 1,
            partitions: 20,
            table_rows: 0,
        };
        for at_a_time in 1..=8 {
            let memory = ShuffleMemory {
                bytes: 200 << 20,
                at_a_time,
                beside: 0,
            };
            for way in [ShuffleWay::Passes, ShuffleWay::Scatter] {
                let window = choose(&input, memory, Some(way)).unwrap().window_bytes;
                let is_half = way == ShuffleWay::Passes && window == memory.bytes / 2;
                let together = if is_half { 2 } else { at_a_time + 1 };
                assert!(window * together <= memory.bytes);
                if way == ShuffleWay::Passes {
                    assert_eq!(
                        input.bytes(way, memory).div_ceil(window),
                        windows(&input, memory)
                    );
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let input = ShuffleInput {
            rows: 1_000,
            weight: RowWeight {
                bytes: 1 << 20,
                arrays: 1,
                random: true,
                ..RowWeight::default()
            },
            scanned: 1,
            partitions: 20,
            table_rows: 0,
        };
        let memory = ShuffleMemory {
            bytes: 100 << 20,
            at_a_time: 4,
            beside: 64 << 20,
        };
        let error = choose(&input, memory, None).unwrap_err().to_string();
        assert!(error.contains("limit that will do is 2214.6 MB"), "{error}");
        let memory = ShuffleMemory {
            bytes: 1 << 30,
            at_a_time: 1,
            beside: 0,
        };
        assert!(choose(&input, memory, Some(ShuffleWay::Gather)).is_ok());
        let input = ShuffleInput {
            rows: 1 << 20,
            ..input
        };
        let error = choose(&input, memory, Some(ShuffleWay::InMemory)).unwrap_err();
        assert!(error.to_string().contains("--memory-limit"), "{error}");
    }
}
