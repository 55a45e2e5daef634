//! `annfusion query`.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;

use super::args::{Format, Global, QueryArgs};
use super::output::{Output, Target};
use super::print::print_error;
use super::run::{Failure, Outcome};
use crate::error::{Error, Result};
use crate::model::{shown, shown_path};
use crate::session::Session;
use crate::sink::Sources;

/// Runs the command.
pub(super) async fn run(args: QueryArgs, global: Global) -> Result<Outcome, Failure> {
    let format = format(&args, global).map_err(Failure::Usage)?;
    let (files, sql) = inputs(args.inputs, args.file.is_some()).map_err(Failure::Usage)?;
    let sql = match &args.file {
        Some(path) => read_sql(path)?,
        None => sql,
    };
    let mut builder = Session::builder();
    if let Some(jobs) = args.jobs {
        builder = builder.target_partitions(usize::from(jobs));
    }
    if let Some(bytes) = args.memory_limit {
        builder = builder.memory_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let session = builder.build()?;
    let mut opened = Vec::with_capacity(files.len());
    let mut places = Vec::with_capacity(files.len());
    let mut said = HashSet::new();
    for file in &files {
        let object = session.open(file).await?;
        if let Some(notice) = object.notice {
            print_error(&format!("note: {notice}"));
        }
        if args.output.is_some() {
            for loss in object.object.losses().await? {
                if said.insert(loss.clone()) {
                    print_error(&format!("warning: {loss}"));
                }
            }
        }
        opened.push(object.object.location().clone());
        places.extend(object.object.places().into_iter().cloned());
    }
    let to = match &args.output {
        Some(path) => Target::file(path, args.overwrite, &places)?,
        None => Target::Stdout,
    };
    let statements = session.parse(&sql)?;
    if statements.is_empty() {
        let nothing = Error::option("query", "the SQL holds no statement");
        return Err(Failure::Usage(nothing));
    }
    let sources = Sources {
        objects: opened,
        ..Sources::default()
    };
    let mut output = Output::new(format, to, args.rows)?;
    for statement in statements {
        let frame = session.run_statement(statement).await?;
        // The number of rows that COPY gives is a word to the user, not a result.
        let silent = matches!(frame.logical_plan(), LogicalPlan::Copy(_))
            && (global.quiet || format != Format::Table);
        let rows = session.stream(frame).await?;
        if silent {
            rows.try_for_each(|_| async { Ok(()) })
                .await
                .map_err(Error::from)?;
        } else {
            output.write(rows, &sources).await?;
        }
        for notice in session.take_notices() {
            if !said.contains(&notice) {
                print_error(&format!("warning: {notice}"));
            }
        }
    }
    output.finish()?;
    Ok(Outcome::Done)
}

/// The format asked for, or the one the output's name ends in, or a table.
fn format(args: &QueryArgs, global: Global) -> Result<Format> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    if global.json {
        return Ok(Format::Json);
    }
    let Some(path) = &args.output else {
        return Ok(Format::Table);
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("json") => Ok(Format::Json),
        Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
        Some("parquet") => Ok(Format::Parquet),
        Some("arrow" | "arrows") => Ok(Format::Arrow),
        Some("txt") => Ok(Format::Table),
        _ => Err(Error::option(
            "--output",
            format!(
                "{} ends in none of .csv .json .ndjson .parquet .arrow .txt; say --format",
                shown_path(path)
            ),
        )),
    }
}

/// The files, and the SQL that is the last argument unless it is in a file.
fn inputs(mut inputs: Vec<String>, in_file: bool) -> Result<(Vec<String>, String)> {
    let is_there = |input: &str| Path::new(input).exists();
    if in_file {
        let last = inputs.last().filter(|last| !is_there(last));
        return match last {
            Some(last) if begins_as_sql(last) => Err(Error::option(
                "--file",
                format!("SQL is given twice, in the file and as {:?}", shown(last)),
            )),
            _ => Ok((inputs, String::new())),
        };
    }
    let sql = inputs.pop().unwrap_or_default();
    if is_there(&sql) || sql.trim().is_empty() {
        return Err(Error::option(
            "query",
            format!("the last argument must be SQL, but is {:?}", shown(&sql)),
        ));
    }
    Ok((inputs, sql))
}

/// Whether the text begins with a word that statements begin with, and goes on.
fn begins_as_sql(text: &str) -> bool {
    const WORDS: [&str; 8] = [
        "SELECT", "WITH", "COPY", "CREATE", "EXPLAIN", "SHOW", "DESCRIBE", "SET",
    ];
    text.trim_start()
        .split_once(char::is_whitespace)
        .is_some_and(|(word, _)| WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

fn read_sql(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::option("--file", format!("{}: {e}", shown_path(path)));
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    } else {
        std::fs::read_to_string(path).map_err(failed)
    }
}
