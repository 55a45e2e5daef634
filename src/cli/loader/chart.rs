//! A chart of settings: how fast minibatches come, and how well they are mixed, by the size of blocks.

use std::io::Write;
use std::path::Path;

use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::PathElement;
use plotters::prelude::SVGBackend;
use plotters::series::LineSeries;
use plotters::style::{BLACK, Color, Palette, Palette99, WHITE};

use super::grid::{Setting, labels};
use super::stream::{beside, publish};
use crate::cli::size::show_count;
use crate::error::{Error, Result};
use crate::store::refuse;

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (860, 320);

/// A place to draw on.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing may meet.
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// What a panel shows of a setting.
struct Panel {
    title: String,
    unit: &'static str,
    /// The least that its axis spans.
    top: f64,
    value: Box<dyn Fn(&Setting) -> f64>,
}

/// Whether a chart may be written to a path.
///
/// # Errors
/// [`Error::OutputRefused`] where it exists and may not be replaced, or is no `.svg`.
pub(super) fn check(path: &Path, overwrite: bool) -> Result<()> {
    if path.extension().is_none_or(|ending| ending != "svg") {
        return Err(refuse(path, "charts are SVG; its name must end in .svg"));
    }
    if path.exists() && !overwrite {
        return Err(refuse(path, "it exists; --overwrite replaces it"));
    }
    Ok(())
}

/// Writes the chart, whole or not at all.
///
/// # Errors
/// [`Error::Store`] where it cannot be written.
pub(super) fn write(settings: &[Setting], path: &Path, overwrite: bool) -> Result<()> {
    let failed = |e: std::io::Error| Error::store("file system", path.display().to_string(), e);
    let svg = draw(settings)
        .map_err(|e| Error::store("plotters", path.display().to_string(), e.to_string()))?;
    let mut file = beside(path).map_err(failed)?;
    file.write_all(svg.as_bytes()).map_err(failed)?;
    publish(file, path, overwrite)
}

fn draw(settings: &[Setting]) -> std::result::Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let mut panels = vec![
        Panel {
            title: "cells per second".to_owned(),
            unit: "cells/s",
            top: 0.0,
            value: Box::new(|setting| setting.seen.cells_s),
        },
        Panel {
            title: "bytes read for a cell".to_owned(),
            unit: "bytes",
            top: 0.0,
            value: Box::new(|setting| setting.seen.bytes_per_cell),
        },
    ];
    panels.extend(labels(settings).into_iter().map(|name| Panel {
        title: format!("{name}: entropy in minibatches, of that in all cells"),
        unit: "%",
        top: 100.0,
        value: Box::new(move |setting| {
            let share = setting.seen.diversity.get(&name);
            share.map_or(0.0, |share| share * 100.0)
        }),
    }));
    let mut svg = String::new();
    {
        let height = PANEL.1 * u32::try_from(panels.len()).unwrap_or(1);
        let root = SVGBackend::with_string(&mut svg, (PANEL.0, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((panels.len(), 1));
        for (area, panel) in areas.iter().zip(&panels) {
            draw_panel(area, panel, settings)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_panel(area: &Area<'_>, panel: &Panel, settings: &[Setting]) -> Drawn {
    let values = settings.iter().map(|setting| (panel.value)(setting));
    let top = values.fold(panel.top, f64::max).max(1.0) * 1.05;
    let chunks = settings.iter().map(|setting| setting.chunk_size);
    let most = chunks.max().unwrap_or(1).max(2);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(84)
        .build_cartesian_2d((float(1)..float(most) * 1.1).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("chunk size (adjacent cells that are fetched together)")
        .y_desc(panel.unit)
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    let mut windows: Vec<u64> = settings.iter().map(Setting::window).collect();
    windows.sort_unstable();
    windows.dedup();
    for (at, window) in windows.into_iter().enumerate() {
        let color = Palette99::pick(at).stroke_width(2);
        let points = settings
            .iter()
            .filter(|setting| setting.window() == window)
            .map(|setting| (float(setting.chunk_size), (panel.value)(setting)));
        chart
            .draw_series(LineSeries::new(points, color).point_size(3))?
            .label(format!("window of {} cells", show_count(window)))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}

#[expect(clippy::cast_precision_loss, reason = "places on a chart")]
fn float(n: u64) -> f64 {
    n as f64
}
