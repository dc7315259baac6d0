//! The report as one self-contained page: nothing is fetched, and the browser is told to allow nothing else.

use std::fmt::Write;

use serde_json::{Value, json};

use super::chart::{Chart, LINES_MAX};
use super::compare::{Comparison, pairs};
use super::fact::{Fact, facts};
use super::series::charts;
use super::source::Source;
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
        let all = source.run.iter().chain(&source.summary).flat_map(facts);
        // What was asked for is said once, though the summary may repeat it; the failure stands above.
        let mut told: Vec<Fact> = Vec::new();
        for fact in all {
            if !told.contains(&fact) && !fact.name.starts_with("failure") {
                told.push(fact);
            }
        }
        self.facts(&told);
        self.body.push_str("</section>");
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
                r#"<tr><td>{}</td><td class="{class}">{}</td><td class="number">{}</td><td>{}</td><td class="soft">{}</td></tr>"#,
                escape(&result.part),
                result.verdict,
                super::unit::span(result.took_ms as f64 / 1000.0),
                escape(&result.why),
                escape(&result.said)
            );
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// A heading between the parts of a page.
    pub(crate) fn heading(&mut self, text: &str) {
        let _ = write!(self.body, "<h3>{}</h3>", escape(text));
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
