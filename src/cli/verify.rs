//! `annfusion verify`.

use super::args::{Global, VerifyArgs};
use super::print::{print, print_json};
use super::progress::Reporter;
use super::run::Outcome;
use crate::error::Result;
use crate::model::Location;
use crate::ops::{Verification, VerifyOptions, compare, verify};

/// Runs the command.
pub(super) async fn run(args: VerifyArgs, global: Global, reporter: &Reporter) -> Result<Outcome> {
    let options = VerifyOptions {
        max_findings: args.max_findings,
    };
    let first = Location::parse(&args.first);
    let (found, well) = match &args.second {
        Some(second) => (
            Box::pin(compare(
                &first,
                &Location::parse(second),
                &options,
                reporter,
            ))
            .await?,
            format!("{first} and {second} are equal"),
        ),
        None => (
            Box::pin(verify(&first, &options, reporter)).await?,
            format!("{first} is sound"),
        ),
    };
    if global.json {
        print_json(&found)?;
    } else {
        print_text(&found, &well, global.quiet)?;
    }
    Ok(if found.is_ok() {
        Outcome::Done
    } else {
        Outcome::Different
    })
}

fn print_text(found: &Verification, well: &str, quiet: bool) -> Result<()> {
    if !quiet {
        for note in &found.notes {
            print(&format!("note: {note}"))?;
        }
    }
    for finding in &found.findings {
        let row = finding
            .row
            .map_or_else(String::new, |row| format!(" row {row}"));
        print(&format!("{}{row}: {}", finding.element, finding.message))?;
    }
    if found.stopped {
        print("... and more; --max-findings shows more of them")?;
    }
    if found.is_ok() && !quiet {
        print(&format!("{well}: {} elements read", found.elements))?;
    }
    Ok(())
}
