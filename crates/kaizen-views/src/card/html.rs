//! The card as one HTML page that needs nothing else.

use kaizen_core::record::{Estimate, Evaluation};
use kaizen_core::{Timestamp, one_line};
use kaizen_store::LineageStep;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::markdown::interval;
use super::{Gated, ModelCard, count, no_evaluation, number};

const STYLE: &str = include_str!("card.css");
/// The width of the drawing of an interval, in its own units.
const WIDTH: f64 = 240.0;
/// So many steps of the lineage are drawn.
const MOST_STEPS: usize = 400;

impl ModelCard {
    /// The card as one HTML page: no script, no font, no picture from elsewhere. Every text is
    /// escaped.
    pub fn to_html(&self) -> String {
        let state = &self.version;
        let title = format!("{} · version {}", state.name, state.version.version);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        (self.header())
                        (self.figures())
                        (self.metrics())
                        (self.decisions())
                        (self.data())
                        (self.timeline())
                        (self.tree())
                        footer { "Made by Kaizen " (env!("CARGO_PKG_VERSION")) " from the audit log and the records. Model " code { (state.version.model) } }
                    }
                }
            }
        };
        // Escaped text still may turn the direction of reading, or drive a terminal.
        let page = page.into_string();
        page.split('\n').map(one_line).collect::<Vec<_>>().join("\n")
    }

    fn header(&self) -> Markup {
        let state = &self.version;
        let overrides = self.overrides();
        html! {
            header {
                p.eyebrow { "Model card" }
                h1 { (state.name) span.version { "version " (state.version.version) } }
                p.chips {
                    @for alias in &state.aliases { span.chip.alias { (alias) } }
                    @if !overrides.is_empty() { span.chip.override { "overridden" } }
                    @for (key, value) in &state.tags {
                        @if key != "purpose" { span.chip { (key) ": " (value) } }
                    }
                    span.chip.quiet { (state.version.model.short()) }
                }
                @if let Some(purpose) = &self.purpose { p.purpose { (purpose) } }
            }
            @if !overrides.is_empty() {
                section.warning role="alert" {
                    h2 { "A person set this model above its gates" }
                    ul { @for mark in &overrides { li { (mark) } } }
                }
            }
        }
    }

    /// The few numbers that a reader wants first.
    fn figures(&self) -> Markup {
        let currency = self.options.currency.as_deref().unwrap_or("money");
        let alarms = self.alarms.len();
        html! {
            section.figures {
                @if let (Some(value), Some(evaluation)) = (self.value(), self.evaluation()) {
                    div.figure.money {
                        span.big { (number(value.value)) " " small { (currency) } }
                        span.what { "value per row, " (number(evaluation.confidence * 100.0)) " % interval " (number(value.low)) " to " (number(value.high)) }
                        span.what { (number(value.value * evaluation.rows as f64)) " " (currency) " over " (count(evaluation.rows)) " " (self.rows()) }
                    }
                }
                @if let Some((name, best)) = self.evaluation().and_then(headline) {
                    div.figure {
                        span.big { (number(best.value)) }
                        span.what { (self.metric(name)) ", " (number(best.low)) " to " (number(best.high)) }
                    }
                }
                @if let Some(data) = &self.data {
                    div.figure {
                        span.big { (count(data.rows)) }
                        span.what { (self.rows()) " to learn from, " (data.features.len()) " features" }
                    }
                }
                div.figure.alarm[alarms > 0] {
                    span.big { (alarms) }
                    span.what { "drift " (if alarms == 1 { "alarm" } else { "alarms" }) " while it answered" }
                }
            }
        }
    }

    fn metrics(&self) -> Markup {
        let Some(evaluation) = self.evaluation() else {
            return html! { section { h2 { "Metrics" } p { (no_evaluation(self.lost_evaluations)) } } };
        };
        let comparison = evaluation.comparison.as_ref();
        html! {
            section {
                h2 { "Metrics" }
                p.note {
                    (count(evaluation.rows)) " " (self.rows()) " in " (evaluation.units)
                    " units of independence; intervals of " (number(evaluation.confidence * 100.0)) " %"
                    @if comparison.is_some() { ", " span.key.own {} " this model, " span.key.other {} " the champion then" }
                    "."
                }
                table {
                    thead { tr {
                        th { "metric" } th.num { "this model" } th {}
                        @if comparison.is_some() { th.num { "champion" } th.num { "difference" } }
                    } }
                    tbody {
                        @for (name, estimate) in &evaluation.metrics {
                            @let theirs = comparison.and_then(|c| c.metrics.get(name));
                            tr {
                                td { (self.metric(name)) }
                                td.num { b { (number(estimate.value)) } br; small { (number(estimate.low)) " – " (number(estimate.high)) } }
                                td.bar { @if comparison.is_some() { (bars(estimate, theirs)) } }
                                @if let Some(comparison) = comparison {
                                    td.num { (theirs.map_or("–".to_owned(), |e| number(e.value))) }
                                    td.num { (comparison.differences.get(name).map_or("–".to_owned(), interval)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn decisions(&self) -> Markup {
        html! {
            section {
                h2 { "Decisions" }
                @if self.decisions.is_empty() { p { "The log knows of no decision." } }
                @for decision in &self.decisions { (verdict(decision)) }
            }
        }
    }

    fn data(&self) -> Markup {
        let Some(data) = &self.data else {
            return html! {
                section { h2 { "Data" } p { "Training set " code { (self.model.training_set.short()) } " is not in the store." } }
            };
        };
        html! {
            section {
                h2 { "Data and method" }
                dl {
                    dt { "label" } dd { code { (data.label) } ", as known on " (instant(data.cutoff)) "; " (count(data.unlabelled)) " " (self.rows()) " had none by then" }
                    dt { "sources" } dd {
                        @for (source, digest) in &data.sources {
                            @let files = self.files.get(source).copied().unwrap_or(0);
                            span.source { (source) " " code { (digest.short()) } @if files > 0 { " " (files) " files" } }
                        }
                    }
                    dt { "features" } dd.features { @for feature in &data.features { code { (feature.name) } " " } }
                    dt { "algorithm" } dd { (self.model.algorithm.name) ", seed " (self.model.seed) }
                    @for (key, value) in &self.model.algorithm.settings { dt { (key) } dd { (value) } }
                }
            }
        }
    }

    fn timeline(&self) -> Markup {
        html! {
            section {
                h2 { "Life" }
                ol.life {
                    @for (at, what) in self.life() {
                        li.marked[what.contains("OVERRIDE") || what.contains("ALARM")] {
                            time { (at.date()) } span { (what) }
                        }
                    }
                }
            }
        }
    }

    fn tree(&self) -> Markup {
        let steps = self.lineage.steps();
        html! {
            section {
                h2 { "Lineage" }
                ul.tree {
                    @for step in steps.iter().take(MOST_STEPS) { (branch(step)) }
                    @if steps.len() > MOST_STEPS { li { "and " (steps.len() - MOST_STEPS) " more" } }
                }
            }
        }
    }
}

/// An instant to the second, for people.
fn instant(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(time)) if text.ends_with('Z') => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// The metric that stands at the top: the area under the curve, or the first that is not money.
fn headline(evaluation: &Evaluation) -> Option<(&str, &Estimate)> {
    let metrics = &evaluation.metrics;
    let best = metrics.get_key_value("auc");
    let best = best.or_else(|| metrics.iter().find(|(name, _)| *name != "value"));
    best.map(|(name, estimate)| (name.as_str(), estimate))
}

fn branch(step: &LineageStep) -> Markup {
    // Depth is shown by indentation up to where a page ends.
    let indent = format!("padding-left: {}rem", 1.4 * f64::from(step.depth.min(20)));
    html! {
        li style=(indent) {
            b { (step.kind) } " " code { (step.id.short()) }
            @if let Some(name) = &step.name { " " (name) }
            @if let Some(said) = &step.said { span.said { " " (said.at.date()) " by " (said.actor) } }
            @if step.repeated { span.said { " (see above)" } }
        }
    }
}

fn verdict(decision: &Gated) -> Markup {
    let (class, word) = match (&decision.overridden, decision.approved) {
        (Some(_), _) => ("verdict overridden", "overridden"),
        (None, true) => ("verdict approved", "approved"),
        (None, false) => ("verdict refused", "refused"),
    };
    html! {
        article class=(class) {
            p.head {
                span.word { (word) } " " time { (instant(decision.at)) } " by " (decision.actor)
                @match decision.champion {
                    Some(champion) => { ", against " code { (champion.short()) } },
                    None => { ", without a champion" },
                }
            }
            @if let Some(by) = &decision.overridden {
                p.person { b { (by.person) } " overrode the gates: " q { (by.reason) } }
            }
            ul.gates {
                @for gate in &decision.gates {
                    li class=(if gate.passed { "passed" } else { "failed" }) {
                        span.sign aria-hidden="true" { (if gate.passed { "✓" } else { "✕" }) }
                        div { b { (gate.gate) } small { (gate.evidence) } }
                    }
                }
            }
        }
    }
}

/// The interval of a metric, and below it that of the champion, on one scale.
fn bars(own: &Estimate, theirs: Option<&Estimate>) -> Markup {
    let ends = [Some(own), theirs];
    let ends = ends.iter().flatten().flat_map(|e| [e.low, e.high, e.value]);
    let (low, high) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return html! {};
    }
    let x = |value: f64| format!("{:.1}", 8.0 + (value - low) / span * (WIDTH - 16.0));
    let bar = |estimate: &Estimate, y: u32, class: &str| {
        html! {
            g class=(class) {
                line x1=(x(estimate.low)) x2=(x(estimate.high)) y1=(y) y2=(y) {}
                circle cx=(x(estimate.value)) cy=(y) r="4" {}
            }
        }
    };
    let label = format!("interval {}", interval(own));
    html! {
        svg viewBox=(format!("0 0 {WIDTH} 28")) role="img" aria-label=(label) {
            (bar(own, if theirs.is_some() { 9 } else { 14 }, "own"))
            @if let Some(theirs) = theirs { (bar(theirs, 20, "other")) }
        }
    }
}
