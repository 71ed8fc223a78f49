//! Asking the contenders in turn, and checking their answers against each other.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kaizen_core::{Context, Error, ErrorKind, Result};

use crate::contender::{Answer, Found};
use crate::ground::{Ground, this_program};

/// A contender in a process of its own, so that its memory and CPU time are its own.
pub(crate) struct Contestant {
    name: &'static str,
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Contestant {
    /// Kaizen, with these settings for the comparison's own contender.
    pub(crate) fn ours(ground: &Ground, name: &'static str, settings: &[&str]) -> Result<Self> {
        let mut command = Command::new(this_program()?);
        command.arg(ground.comparison()).arg("--contender").args(settings);
        Self::start(ground, name, command)
    }

    /// A rival: its script and the script's arguments.
    pub(crate) fn rival(
        ground: &Ground,
        name: &'static str,
        script: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(ground.python()?);
        command.arg(Ground::script(script)).args(arguments);
        // Neither writes beside the scripts nor reports to anybody.
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("FEAST_USAGE", "False");
        Self::start(ground, name, command)
    }

    fn start(ground: &Ground, name: &'static str, mut command: Command) -> Result<Self> {
        let log = ground.log(name);
        let errors = File::create(&log).context(ErrorKind::Unavailable, log.display())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut process = command.spawn().context(ErrorKind::Unavailable, name)?;
        let questions = process.stdin.take();
        let answers = process.stdout.take().context(ErrorKind::Internal, name)?;
        Ok(Self { name, process, questions, answers: BufReader::new(answers), log })
    }

    /// Its name in the lines.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Asks a question and waits for the answer.
    pub(crate) fn ask(&mut self, question: &str) -> Result<Answer> {
        let mut line = String::new();
        let asked = self.questions.as_mut().map(|questions| writeln!(questions, "{question}"));
        let answered = asked.is_some_and(|asked| asked.is_ok())
            && self.answers.read_line(&mut line).is_ok_and(|length| length > 0);
        if !answered {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{} did not answer `{question}`; {} ends with:\n{}",
                    self.name,
                    self.log.display(),
                    last.join("\n")
                ),
            ));
        }
        serde_json::from_str(&line).context(ErrorKind::Corrupt, format!("answer of {}", self.name))
    }

    /// Forgets the peak of memory so far, such as that of loading the data.
    pub(crate) fn forget_peak(&self) {
        // Where the kernel cannot do it, the peak is that of the whole life.
        drop(fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5"));
    }

    /// The peak of resident memory in bytes, data included; `None` where the kernel does not say.
    pub(crate) fn peak(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024.0)
    }
}

impl Drop for Contestant {
    /// The end of its questions ends a contender.
    fn drop(&mut self) {
        drop(self.questions.take());
        drop(self.process.wait());
    }
}

/// What one contender is asked in a contest.
pub(crate) struct Turn {
    pub(crate) contender: &'static str,
    pub(crate) question: String,
    /// How often it is asked, and counted.
    pub(crate) times: usize,
}

impl Turn {
    pub(crate) fn new(contender: &'static str, question: impl Into<String>, times: usize) -> Self {
        Self { contender, question: question.into(), times }
    }
}

/// What one contender answered over all rounds.
pub(crate) struct Outcome {
    pub(crate) contender: &'static str,
    pub(crate) answers: Vec<Answer>,
}

impl Outcome {
    /// The time of every call.
    pub(crate) fn seconds(&self) -> Vec<f64> {
        self.answers.iter().flat_map(|answer| answer.seconds.iter().copied()).collect()
    }

    /// The CPU time of a call, averaged over each answer's calls: one number per answer.
    pub(crate) fn cpu_seconds(&self) -> Vec<f64> {
        let of_call = |answer: &Answer| answer.cpu_seconds / answer.seconds.len().max(1) as f64;
        self.answers.iter().map(of_call).collect()
    }
}

/// Asks in rounds, everybody once in each, so that noise hits all alike; who is asked less often
/// drops out early. With `warm_up` everybody is asked once more, before, and that is not counted.
///
/// Contenders that do not agree on what they found are an error.
pub(crate) fn contest(
    line: &str,
    contestants: &mut [Contestant],
    turns: &[Turn],
    warm_up: bool,
) -> Result<Vec<Outcome>> {
    let rounds = turns.iter().map(|turn| turn.times).max().unwrap_or(0);
    let mut outcomes: Vec<Outcome> = turns
        .iter()
        .map(|turn| Outcome { contender: turn.contender, answers: Vec::new() })
        .collect();
    for round in 0..rounds + usize::from(warm_up) {
        let warming = warm_up && round == 0;
        for (turn, outcome) in turns.iter().zip(&mut outcomes) {
            if outcome.answers.len() >= turn.times {
                continue;
            }
            let name = turn.contender;
            let contestant = contestants.iter_mut().find(|contestant| contestant.name == name);
            let contestant = contestant.context(ErrorKind::Internal, name)?;
            let answer = contestant.ask(&turn.question)?;
            if !warming {
                outcome.answers.push(answer);
            }
        }
    }
    agree(line, &outcomes)?;
    Ok(outcomes)
}

/// Everybody found the same, each time.
fn agree(line: &str, outcomes: &[Outcome]) -> Result<()> {
    let Some(first) = outcomes.first() else { return Ok(()) };
    let Some(expected) = first.answers.first() else { return Ok(()) };
    for outcome in outcomes {
        for answer in &outcome.answers {
            if let Some(difference) = difference(&expected.found, &answer.found) {
                let (one, other) = (first.contender, outcome.contender);
                let message = format!("{line}: {one} and {other} disagree: {difference}");
                return Err(Error::conflict(message));
            }
        }
    }
    Ok(())
}

/// What differs, in words. Sums of whole numbers are exact; means are rounded, and their sums
/// depend on the order of the rows.
fn difference(one: &Found, other: &Found) -> Option<String> {
    if !one.keys().eq(other.keys()) {
        return Some(format!("{:?} and {:?}", one.keys(), other.keys()));
    }
    one.iter().zip(other.values()).find_map(|((name, one), other)| {
        let slack = if name.starts_with("mean") { 1e-9 * one.abs() } else { 0.0 };
        let same = (one - other).abs() <= slack;
        (!same).then(|| format!("{name} is {one} and {other}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, f64)]) -> Found {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn answers_that_differ_in_one_row_disagree() {
        let one = found(&[("sum", 1e12), ("unmatched", 1060.0)]);
        assert_eq!(difference(&one, &one), None);
        let other = found(&[("sum", 1e12), ("unmatched", 1061.0)]);
        assert_eq!(difference(&one, &other).unwrap(), "unmatched is 1060 and 1061");
        assert!(difference(&one, &found(&[("sum", 1e12)])).is_some());
        assert!(difference(&one, &found(&[("sum", f64::NAN), ("unmatched", 1060.0)])).is_some());
    }

    #[test]
    fn only_means_have_slack() {
        let of = |name, value| found(&[(name, value)]);
        assert_eq!(difference(&of("mean_day", 1.0), &of("mean_day", 1.0 + 1e-12)), None);
        assert!(difference(&of("mean_day", 1.0), &of("mean_day", 1.0 + 1e-6)).is_some());
        assert!(difference(&of("sum_day", 1.0), &of("sum_day", 1.0 + 1e-12)).is_some());
    }
}
