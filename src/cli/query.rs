//! `annfusion query`.

use std::io::Read;
use std::path::Path;

use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;

use super::args::{Format, Global, QueryArgs};
use super::output::{Output, Target};
use super::print::print_error;
use super::run::Outcome;
use crate::error::{Error, Result};
use crate::session::Session;

/// Runs the command.
pub(super) async fn run(args: QueryArgs, global: Global) -> Result<Outcome> {
    let usage = format(&args, global)
        .and_then(|format| Ok((format, inputs(args.inputs, args.file.as_deref())?)));
    let (format, (files, sql)) = match usage {
        Ok(usage) => usage,
        Err(error) => return Ok(Outcome::Misused(error)),
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
    for file in &files {
        let object = session.open(file).await?;
        if let Some(notice) = object.notice {
            print_error(&format!("note: {notice}"));
        }
        opened.push(object.object.location().clone());
    }
    let to = match &args.output {
        Some(path) => Target::file(path, args.overwrite, &opened)?,
        None => Target::Stdout,
    };
    let statements = session.parse(&sql)?;
    if statements.is_empty() {
        return Err(Error::option("query", "the SQL holds no statement"));
    }
    let mut output = Output::new(format, to, args.rows)?;
    for statement in statements {
        let frame = session.run_statement(statement).await?;
        // The number of rows that COPY gives is a word to the user, not a result.
        let silent = matches!(frame.logical_plan(), LogicalPlan::Copy(_))
            && (global.quiet || format != Format::Table);
        let rows = session.stream(frame).await?;
        if silent {
            rows.try_for_each(|_| async { Ok(()) }).await?;
        } else {
            output.write(rows).await?;
        }
        for notice in session.take_notices() {
            print_error(&format!("warning: {notice}"));
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
                path.display()
            ),
        )),
    }
}

/// The files, and the SQL: of `-f`, or the last argument.
fn inputs(mut inputs: Vec<String>, file: Option<&Path>) -> Result<(Vec<String>, String)> {
    let sql = match file {
        Some(path) => read_sql(path)?,
        None => inputs.pop().unwrap_or_default(),
    };
    if file.is_some()
        && let Some(last) = inputs.last()
        && last.contains(char::is_whitespace)
        && !Path::new(last).exists()
    {
        return Err(Error::option(
            "--file",
            format!("SQL is given twice, in the file and as {last:?}"),
        ));
    }
    if file.is_none() && (Path::new(&sql).exists() || sql.trim().is_empty()) {
        return Err(Error::option(
            "query",
            format!("the last argument must be SQL, but is {sql:?}"),
        ));
    }
    Ok((inputs, sql))
}

fn read_sql(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::option("--file", format!("{}: {e}", path.display()));
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    } else {
        std::fs::read_to_string(path).map_err(failed)
    }
}
