//! The report as one self-contained page: nothing is fetched, and the browser is told to allow nothing else.

use std::fmt::Write;

use serde_json::{Value, json};

use super::chart::{Chart, LINES_MAX};
use super::compare::{Comparison, pairs};
use super::fact::{Fact, facts};
use super::series::charts;
use super::source::{Source, number};
use super::unit::{Unit, escape};
use super::verdict::ending;
use crate::night::part::{PartResult, Verdict};

/// A page while it is written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    body: String,
    /// What the script needs to know of each chart, in the order of the page.
    data: Vec<Value>,
}

impl Page {
    /// The head of one soak: how it ended, and its facts.
    pub(crate) fn head(&mut self, source: &Source) {
        let ending = ending(source);
        let _ = write!(
            self.body,
            r#"<section><h1>{}</h1><span class="badge {}">{}</span>"#,
            escape(&source.name()),
            ending.class,
            ending.word
        );
        if !ending.text.is_empty() {
            let _ = write!(self.body, r#"<p class="wrong">{}</p>"#, escape(&ending.text));
        }
        for remark in &source.remarks {
            let _ = write!(self.body, r#"<p class="remark">{}</p>"#, escape(remark));
        }
        for recording in &source.recordings {
            let _ = write!(
                self.body,
                r#"<p class="remark">recorded: <code>sim replay {}</code></p>"#,
                escape(&recording.display().to_string())
            );
        }
        self.facts(&facts(source.run.as_ref(), source.summary.as_ref()));
        self.workloads(source);
        self.slopes(source);
        self.body.push_str("</section>");
    }

    /// Each workload in numbers, of the whole soak.
    fn workloads(&mut self, source: &Source) {
        let Some(workloads) = source.summary.as_ref().and_then(|summary| summary["workloads"].as_object())
        else {
            return;
        };
        self.body.push_str(
            r#"<div class="scroll"><table><thead><tr><th>workload</th><th class="number">episodes</th><th class="number">messages</th>"#,
        );
        const TIMES: [(&str, &str, &str); 6] = [
            ("p50", "latency/corrected", "p50_ns"),
            ("p99", "latency/corrected", "p99_ns"),
            ("p99.9", "latency/corrected", "p99_9_ns"),
            ("max", "latency/corrected", "max_ns"),
            ("p99 uncorrected", "latency/uncorrected", "p99_ns"),
            ("p99 of timers", "timer_lateness", "p99_ns"),
        ];
        for (label, _, _) in TIMES {
            let _ = write!(self.body, r#"<th class="number">{label}</th>"#);
        }
        self.body.push_str("</tr></thead><tbody>");
        for (name, workload) in workloads {
            let _ = write!(self.body, "<tr><td>{}</td>", escape(name));
            let counts =
                ["/counters/episodes", "/counters/messages"].map(|place| (place.to_owned(), Unit::Count));
            let times = TIMES.map(|(_, field, percentile)| (format!("/{field}/{percentile}"), Unit::Ns));
            for (place, unit) in counts.into_iter().chain(times) {
                let text = number(workload, &place).map_or_else(|| "-".to_owned(), |value| unit.text(value));
                let _ = write!(self.body, r#"<td class="number">{text}</td>"#);
            }
            self.body.push_str("</tr>");
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// What the slope tests said.
    fn slopes(&mut self, source: &Source) {
        let Some(slopes) = source.summary.as_ref().and_then(|summary| summary["slopes"].as_array()) else {
            return;
        };
        let text = |slope: &Value| {
            let words = |field: &str| slope[field].as_str().unwrap_or("?").replace('_', " ");
            format!("{}: {}", words("value"), words("verdict"))
        };
        let all: Vec<String> = slopes.iter().map(text).collect();
        if !all.is_empty() {
            let _ = write!(self.body, r#"<p class="slopes">Slopes: {}</p>"#, escape(&all.join("; ")));
        }
    }

    fn facts(&mut self, facts: &[Fact]) {
        if facts.is_empty() {
            return;
        }
        self.body.push_str(r#"<dl class="facts">"#);
        for Fact { name, text } in facts {
            let _ = write!(self.body, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(text));
        }
        self.body.push_str("</dl>");
    }

    /// The charts of one soak.
    pub(crate) fn charts(&mut self, source: &Source) {
        self.body.push_str(r#"<div class="charts">"#);
        for chart in &charts(source) {
            self.figure(chart, Chart::axes(&[chart]), source, &chart.title);
        }
        self.body.push_str("</div>");
    }

    /// The charts of two soaks, side by side on the same axes.
    pub(crate) fn chart_pairs(&mut self, a: &Source, b: &Source) {
        self.body.push_str(r#"<div class="charts pairs">"#);
        for (of_a, of_b) in pairs(a, b) {
            let axes = Chart::axes(&[&of_a, &of_b]);
            self.figure(&of_a, axes, a, &format!("{}: {}", a.name(), of_a.title));
            self.figure(&of_b, axes, b, &format!("{}: {}", b.name(), of_b.title));
        }
        self.body.push_str("</div>");
    }

    fn figure(&mut self, chart: &Chart, axes: super::chart::Axes, source: &Source, title: &str) {
        let _ = write!(
            self.body,
            r#"<figure><figcaption><h2>{}</h2><span class="at legend"></span><span class="legend">"#,
            escape(title)
        );
        for (index, line) in chart.lines.iter().enumerate() {
            let _ = write!(
                self.body,
                r#"<span><i class="s{}"></i>{}<b></b></span>"#,
                index % LINES_MAX,
                escape(&line.label)
            );
        }
        let _ = write!(
            self.body,
            "</span><p>{}</p></figcaption>{}</figure>",
            escape(&chart.caption),
            chart.svg(axes, &source.marks)
        );
        let unit = match chart.unit {
            Unit::Ns => "ns",
            Unit::Bytes => "bytes",
            Unit::Count => "count",
            Unit::PerSecond => "rate",
            Unit::BytesPerSecond => "byte-rate",
        };
        let lines: Vec<&Vec<Option<f64>>> = chart.lines.iter().map(|line| &line.values).collect();
        self.data.push(json!({"at_s": chart.at_s, "unit": unit, "lines": lines}));
    }

    /// Two soaks in numbers.
    pub(crate) fn comparison(&mut self, comparison: &Comparison) {
        let _ = write!(
            self.body,
            r#"<h3>In numbers: medians over the intervals; of trouble, its sum</h3><div class="scroll"><table><thead><tr><th>what</th><th class="number">{}</th><th class="number">{}</th><th class="number">ratio</th></tr></thead><tbody>"#,
            escape(&comparison.names[0]),
            escape(&comparison.names[1])
        );
        for row in &comparison.rows {
            let [a, b] = &row.texts;
            let _ = write!(
                self.body,
                r#"<tr><td>{}</td><td class="number">{a}</td><td class="number">{b}</td><td class="number">{}</td></tr>"#,
                escape(&row.what),
                row.ratio
            );
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// The head of a night, and its parts as a table.
    pub(crate) fn parts(&mut self, name: &str, facts: &[Fact], results: &[&PartResult]) {
        let failed = results.iter().any(|result| result.verdict == Verdict::Failed);
        let (class, word) = if failed { ("bad", "failed") } else { ("", "no failure") };
        let _ = write!(
            self.body,
            r#"<section><h1>{}</h1><span class="badge {class}">{word}</span>"#,
            escape(name)
        );
        self.facts(facts);
        self.body.push_str(
            r#"</section><div class="scroll"><table><thead><tr><th>part</th><th>verdict</th><th class="number">took</th><th>why</th><th>the last that it said</th></tr></thead><tbody>"#,
        );
        for result in results {
            let class = match result.verdict {
                Verdict::Passed => "good",
                Verdict::Failed => "bad",
                Verdict::LeftOut | Verdict::Interrupted => "soft",
            };
            let _ = write!(
                self.body,
                r#"<tr><td class="name">{}</td><td class="name {class}">{}</td><td class="number">{}</td><td>{}</td><td class="soft">{}</td></tr>"#,
                escape(&result.part),
                result.verdict,
                super::unit::span(result.took_ms as f64 / 1000.0),
                escape(&result.why),
                escape(&result.said)
            );
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// The whole page.
    pub(crate) fn finish(self, title: &str) -> String {
        // Nothing in the data may end the element that holds it.
        let data = Value::Array(self.data).to_string().replace('<', "\\u003c");
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{}</title>
<style>
{}</style>
</head>
<body>
{}
<footer>Times are since the beginning. A triangle above a chart is an event of the chaos schedule, or, in red, a failure; point at it to read it. Files: soak/REPORT_FORMAT.md.</footer>
<script type="application/json" id="data">{data}</script>
<script>
{}</script>
</body>
</html>
"#,
            escape(title),
            include_str!("page.css"),
            self.body,
            include_str!("page.js")
        )
    }
}
