//! The report: one self-contained HTML page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::account::{Comparison, Story, money};
use super::chart::{BLUE, Chart, GREY, Line, ORANGE};
use super::replay::Outcome;

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, sans-serif; color: #20242c; background: #f6f7f9; margin: 0; }
main { max-width: 1020px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 6px; }
p { margin: 6px 0 12px; max-width: 75ch; } .dim { color: #5b606c; }
figure { margin: 0; background: #fff; border: 1px solid #e2e5eb; border-radius: 8px; padding: 10px; }
.cards { display: flex; gap: 12px; flex-wrap: wrap; margin: 20px 0; }
.card { background: #fff; border: 1px solid #e2e5eb; border-radius: 8px; padding: 12px 18px; flex: 1; }
.card b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; background: #fff; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid #e8eaef; vertical-align: top; }
th { font-weight: 600; color: #5b606c; } td.n, th.n { text-align: right; }
td.n, td.d { white-space: nowrap; }
code { font-size: 13px; word-break: break-all; }
";

type Failure = Box<dyn std::error::Error>;

/// The page.
pub fn page(story: &Story) -> Result<String, Failure> {
    let charts = Charts::draw(story)?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Flight delays: a year of the loop" }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                h1 { "Flight delays: a year of the loop" }
                p .dim {
                    "One hour before departure, will this flight arrive at least 15 minutes late or "
                    "be cancelled? Acting on a warning costs 35; a late flight that was warned of "
                    "saves 100. New York's three airports, 2013, replayed day by day."
                }
                (cards(story))
                h2 { "What each policy earned" }
                p { "Vertical lines: days on which an alarm asked for a retraining." }
                (figure(&charts.value))
                (comparisons(story))
                h2 { "What happened" }
                (events(story))
                h2 { "Evidence of drift" }
                (meaning_of_evidence(story))
                (figure(&charts.evidence))
                h2 { "Ranking, month by month" }
                (figure(&charts.auc))
                h2 { "The year as it was" }
                (figure(&charts.late))
                h2 { "Calibration of what was served" }
                p { "Each point is a tenth of all predictions: what was forecast, and what came." }
                (figure(&charts.calibration))
                (audit(story))
            } }
        }
    }
    .into_string())
}

/// The charts, as SVG.
struct Charts {
    value: String,
    evidence: String,
    auc: String,
    late: String,
    calibration: String,
}

impl Charts {
    fn draw(story: &Story) -> Result<Self, Failure> {
        let served = story.served();
        let day = |x: &f64| story.date(*x as i64);
        let month = |x: &f64| MONTHS.get(x.round() as usize).copied().unwrap_or("").to_owned();
        let share = |x: &f64| format!("{:.0} %", 100.0 * x);
        let marks: Vec<f64> = served.retrained.iter().map(|day| *day as f64).collect();
        let plain = |y_name, x_label, y_label| Chart {
            y_name,
            x_label,
            y_label,
            x_ticks: 10,
            marks: &[],
            level: None,
            dots: false,
        };
        let millions = |y: &f64| format!("{:.1} M", y / 1e6);
        let value = Chart { marks: &marks, ..plain("value to date", &day, &millions) };
        let power = |y: &f64| format!("1e{y:.0}");
        let level = Some(story.threshold().log10());
        let evidence = Chart { marks: &marks, level, ..plain("evidence (e-value)", &day, &power) };
        let hundredths = |y: &f64| format!("{y:.2}");
        let auc = Chart { dots: true, ..plain("AUC", &month, &hundredths) };
        let late = plain("share of flights", &day, &share);
        let calibration = Chart { dots: true, ..plain("late or cancelled", &share, &share) };
        let line = |name, color, points| Line { name, color, points };
        Ok(Self {
            value: value.draw(&lines(story, Outcome::value_to_date))?,
            evidence: evidence.draw(&[
                line("inputs drifted", BLUE, log10(&served.drift_evidence)),
                line("value fell", ORANGE, log10(&served.value_evidence)),
            ])?,
            auc: auc.draw(&lines(story, |outcome| story.auc_by_month(outcome)))?,
            late: late.draw(&[
                line("late or cancelled", GREY, story.late_rate()),
                line("warned of", BLUE, served.warned_rate()),
            ])?,
            calibration: calibration.draw(&[
                line("perfect", GREY, vec![(0.0, 0.0), (1.0, 1.0)]),
                line("served", BLUE, story.calibration(served)),
            ])?,
        })
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn lines(story: &Story, points: impl Fn(&Outcome) -> Vec<(f64, f64)>) -> Vec<Line<'_>> {
    let colors = [GREY, ORANGE, BLUE];
    let line = |(outcome, color)| {
        let outcome: &Outcome = outcome;
        Line { name: outcome.name, color, points: points(outcome) }
    };
    story.outcomes.iter().zip(colors).map(line).collect()
}

fn log10(points: &[(i64, f64)]) -> Vec<(f64, f64)> {
    points.iter().map(|(day, e)| (*day as f64, e.max(1e-3).log10())).collect()
}

fn figure(svg: &str) -> Markup {
    html! { figure { (PreEscaped(svg)) } }
}

fn meaning_of_evidence(story: &Story) -> Markup {
    html! { p {
        "After each day, the evidence against “the days are as they were when the champion was "
        "trained”. The alarm sounds at the red line. If days came in no order at all, either curve "
        "would reach it between two decisions with a probability of at most "
        (format!("{:.0} %", 100.0 / story.threshold()))
        ", over all days and features together; seasons and spells of weather do have an order, "
        "which is what it finds."
    } }
}

fn audit(story: &Story) -> Markup {
    html! {
        h2 { "Audit" }
        p { (story.audit.entries) " entries, verified against the key " code { (story.audit.key) } }
        pre { code { (story.audit.checkpoint) } }
        p .dim { "Lineage of the champion at the year's end:" }
        pre { code { (story.audit.lineage) } }
    }
}

fn cards(story: &Story) -> Markup {
    html! { div .cards {
        @for outcome in &story.outcomes {
            div .card {
                span .dim { (outcome.name) }
                b { (money(outcome.total())) }
                span .dim { (outcome.trainings) " trainings, " (outcome.promotions) " promoted" }
            }
        }
    } }
}

fn comparisons(story: &Story) -> Markup {
    html! {
        p {}
        table {
            tr { th { "difference" } th .n { "value" } th .n { "95 % interval, by days" } }
            @for Comparison { name, difference } in &story.comparisons {
                tr {
                    td { (name) }
                    td .n { (money(difference.value)) }
                    td .n { (money(difference.low)) " to " (money(difference.high)) }
                }
            }
        }
    }
}

fn events(story: &Story) -> Markup {
    html! { table {
        tr { th { "day" } th { "event" } th { "evidence" } th { "model" } th .n { "value to date" } }
        @for event in &story.served().events {
            tr {
                td .d { (story.date(event.day)) }
                td { (event.what) }
                td { (event.evidence) }
                td { (event.model) }
                td .n { (money(event.value_to_date)) }
            }
        }
    } }
}
