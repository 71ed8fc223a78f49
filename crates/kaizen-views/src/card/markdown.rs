//! The card in Markdown.

use std::fmt::Write as _;

use kaizen_core::one_line;
use kaizen_core::record::Estimate;

use super::{ModelCard, change, count, no_evaluation, number};

impl ModelCard {
    /// The card in Markdown (CommonMark with tables). Texts of people are escaped.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let state = &self.version;
        writeln!(out, "# {}, version {}\n", escape(&state.name), state.version.version)?;
        for mark in self.overrides() {
            writeln!(out, "> **{}**\n", escape(&mark))?;
        }
        if let Some(purpose) = &self.purpose {
            writeln!(out, "{}\n", escape(purpose))?;
        }
        writeln!(out, "| | |\n|---|---|")?;
        writeln!(out, "| model | `{}` |", state.version.model)?;
        if !state.aliases.is_empty() {
            writeln!(out, "| aliases | {} |", escape(&state.aliases.join(", ")))?;
        }
        writeln!(out, "| registered | {} by {} |", state.at, escape(&state.actor.to_string()))?;
        writeln!(out, "| algorithm | {} |", escape(&self.model.algorithm.name))?;
        for (key, value) in &self.model.algorithm.settings {
            writeln!(out, "| {} | {} |", escape(key), escape(value))?;
        }
        writeln!(out, "| seed | {} |", self.model.seed)?;
        for (key, value) in &state.tags {
            writeln!(out, "| tag {} | {} |", escape(key), escape(value))?;
        }
        self.write_value(out)?;
        self.write_metrics(out)?;
        self.write_decisions(out)?;
        self.write_data(out)?;
        self.write_life(out)?;
        let lineage = self.lineage.to_string();
        let fence = "`".repeat(longest_run(&lineage).max(2) + 1);
        writeln!(out, "\n## Lineage\n\n{fence}text\n{lineage}{fence}")
    }

    fn write_value(&self, out: &mut String) -> std::fmt::Result {
        let (Some(value), Some(evaluation)) = (self.value(), self.evaluation()) else {
            return Ok(());
        };
        let currency = self.options.currency.as_deref().unwrap_or("in money");
        let rows = evaluation.rows as f64;
        writeln!(out, "\n## Value\n")?;
        writeln!(
            out,
            "{} {} per row, {} over the {} {} of the evaluation.",
            interval(value),
            escape(currency),
            number(value.value * rows),
            count(evaluation.rows),
            escape(self.rows()),
        )
    }

    fn write_metrics(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Metrics\n")?;
        let Some(evaluation) = self.evaluation() else {
            return writeln!(out, "{}", no_evaluation(self.lost_evaluations));
        };
        let percent = number(evaluation.confidence * 100.0);
        let (rows, units) = (count(evaluation.rows), evaluation.units);
        let what = escape(self.rows());
        writeln!(
            out,
            "On {rows} {what} in {units} units of independence; {percent} % intervals.\n"
        )?;
        let comparison = evaluation.comparison.as_ref();
        match comparison {
            Some(_) => {
                writeln!(out, "| metric | this model | champion | difference |\n|---|---|---|---|")?
            }
            None => writeln!(out, "| metric | this model |\n|---|---|")?,
        }
        for (name, estimate) in &evaluation.metrics {
            write!(out, "| {} | {} |", escape(&self.metric(name)), interval(estimate))?;
            if let Some(comparison) = comparison {
                let shown = |found: Option<&Estimate>| found.map_or("–".to_owned(), interval);
                let (theirs, difference) =
                    (comparison.metrics.get(name), comparison.differences.get(name));
                write!(out, " {} | {} |", shown(theirs), shown(difference))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_decisions(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Decisions")?;
        if self.decisions.is_empty() {
            writeln!(out, "\nThe log knows of no decision.")?;
        }
        for decision in &self.decisions {
            let verdict = match (&decision.overridden, decision.approved) {
                (Some(_), _) => "OVERRIDDEN",
                (None, true) => "approved",
                (None, false) => "refused",
            };
            let (at, actor) = (decision.at, escape(&decision.actor.to_string()));
            let against = decision.champion.map_or("no champion".to_owned(), |c| c.short());
            writeln!(out, "\n**{verdict}** on {at} by {actor}, against {against}\n")?;
            if let Some(by) = &decision.overridden {
                writeln!(
                    out,
                    "> **{} overrode the gates: {}**\n",
                    escape(&by.person),
                    escape(&by.reason)
                )?;
            }
            writeln!(out, "| gate | | evidence |\n|---|---|---|")?;
            for gate in &decision.gates {
                let passed = if gate.passed { "passed" } else { "**failed**" };
                writeln!(
                    out,
                    "| {} | {passed} | {} |",
                    escape(&gate.gate),
                    escape(&gate.evidence)
                )?;
            }
        }
        Ok(())
    }

    fn write_data(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Data\n")?;
        let Some(data) = &self.data else {
            return writeln!(
                out,
                "Training set `{}`, which is not in the store.",
                self.model.training_set
            );
        };
        writeln!(
            out,
            "{} {}, labels as known on {}; {} left out for want of a label. Label {}.\n",
            count(data.rows),
            escape(self.rows()),
            data.cutoff,
            count(data.unlabelled),
            code(&data.label),
        )?;
        writeln!(out, "| source | files | digest |\n|---|---|---|")?;
        for (source, digest) in &data.sources {
            let files = self.files.get(source).filter(|count| **count > 0);
            let files = files.map_or_else(|| "not listed".to_owned(), ToString::to_string);
            writeln!(out, "| {} | {files} | `{}` |", escape(source), digest.short())?;
        }
        let features: Vec<_> = data.features.iter().map(|feature| code(&feature.name)).collect();
        writeln!(out, "\n{} features: {}.", features.len(), features.join(", "))
    }

    fn write_life(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Life\n\n| when | what |\n|---|---|")?;
        for (at, what) in self.life() {
            writeln!(out, "| {at} | {} |", escape(&what))?;
        }
        Ok(())
    }

    /// Everything that happened to it, oldest first, in a sentence each.
    pub(super) fn life(&self) -> Vec<(kaizen_core::Timestamp, String)> {
        let mut life = vec![(self.version.at, "registered".to_owned())];
        for (alias, moved) in &self.moves {
            let (actor, what) = (&moved.actor, change(moved));
            let what = match moved.to.version == self.version.version.version {
                true => format!("became {alias} by {actor}, {what}"),
                false => format!("{alias} went to version {} by {actor}, {what}", moved.to.version),
            };
            life.push((moved.at, what));
        }
        for step in &self.deployments {
            let (target, what, weight) = (&step.target, &step.step, step.weight);
            life.push((step.at, format!("on {target}: {what}, weight {weight}")));
        }
        for alarm in &self.alarms {
            let names: Vec<_> = alarm.features.iter().map(|(name, _)| name.as_str()).collect();
            let (evidence, alpha) = (number(alarm.evidence), number(alarm.alpha));
            let named = names.join(", ");
            life.push((
                alarm.at,
                format!("DRIFT ALARM: evidence {evidence} at α {alpha}; strongest: {named}"),
            ));
        }
        life.sort_by_key(|(at, _)| *at);
        life
    }
}

/// A value with its interval.
pub(super) fn interval(estimate: &Estimate) -> String {
    format!("{} [{}, {}]", number(estimate.value), number(estimate.low), number(estimate.high))
}

/// Text that means nothing to Markdown, on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        if "\\`*_[]<>|#&~!".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Text as it is, in a code span: there a backslash escapes nothing, so the span is fenced by more
/// backticks than the text has in a row.
fn code(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// How many backticks follow one another at most.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_span_shows_its_text_as_it_is() {
        assert_eq!(code("dep_delay"), "`dep_delay`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x"), "`` `x ``");
        assert_eq!(code("a\nb"), "`a b`");
    }
}
