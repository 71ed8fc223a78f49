//! Facets of runs and jobs.

use kaizen_core::record::{Decision, DriftReport};
use kaizen_core::{AliasChange, Entry, Event, OperationId};
use serde_json::{Value, json};

use super::{Facets, OpenLineage, facet, uuid};

/// So many features of a drift report are named.
const MOST_FEATURES: usize = 100;

impl OpenLineage {
    /// A facet of the standard: its file with its version, such as `1-2-0/ParentRunFacet`.
    pub(super) fn standard(&self, name: &str, file: &str, body: Value) -> (String, Value) {
        let kind = file.rsplit('/').next().unwrap_or(file);
        let url = format!("https://openlineage.io/spec/facets/{file}.json#/$defs/{kind}");
        (name.to_owned(), facet(&self.producer, url, body))
    }

    /// A facet of our own.
    fn own(&self, name: &str, kind: &str, body: Value) -> (String, Value) {
        let url = format!("{}/{kind}.json#/$defs/{kind}", self.schemas);
        (name.to_owned(), facet(&self.producer, url, body))
    }

    /// Which engine, and which entry of the log.
    pub(super) fn run_facets(&self, index: u64, entry: &Entry) -> Facets {
        let engine = json!({ "name": "kaizen", "version": env!("CARGO_PKG_VERSION") });
        let said = json!({
            "index": index.to_string(),
            "actor": entry.actor,
            "operation": entry.operation,
            "event": entry.event,
            "subject": entry.subject,
            "evidence": entry.evidence,
        });
        Facets::from([
            self.standard("processing_engine", "1-1-1/ProcessingEngineRunFacet", engine),
            self.own("kaizen_entry", "EntryRunFacet", said),
        ])
    }

    pub(super) fn parent_facet(&self, operation: &OperationId) -> Facets {
        let run = json!({ "runId": uuid(&[&operation.to_string()]) });
        let job = json!({ "namespace": self.namespace, "name": operation.name() });
        let body = json!({ "run": run, "job": job });
        Facets::from([self.standard("parent", "1-2-0/ParentRunFacet", body)])
    }

    pub(super) fn error_facet(&self, message: &str) -> Facets {
        let body = json!({ "message": message, "programmingLanguage": "RUST" });
        Facets::from([self.standard("errorMessage", "1-0-1/ErrorMessageRunFacet", body)])
    }

    pub(super) fn job_type_facet(&self, kind: &str) -> Facets {
        let body = json!({ "processingType": "BATCH", "integration": "KAIZEN", "jobType": kind });
        Facets::from([self.standard("jobType", "2-0-4/JobTypeJobFacet", body)])
    }

    /// The gates as assertions about the evaluation.
    pub(super) fn assertions(&self, decision: &Decision) -> Facets {
        let assertions = decision.gates.iter().map(|gate| {
            json!({
                "assertion": "gate",
                "name": gate.gate,
                "success": gate.passed,
                "severity": "error",
                "actual": gate.evidence,
            })
        });
        let body = json!({ "assertions": assertions.collect::<Vec<_>>() });
        let file = "1-1-0/DataQualityAssertionsDatasetFacet";
        Facets::from([self.standard("dataQualityAssertions", file, body)])
    }

    pub(super) fn gate_facet(&self, decision: &Decision) -> Facets {
        let body = json!({
            "approved": decision.approved(),
            "model": decision.model,
            "champion": decision.champion,
            "evaluation": decision.evaluation,
            "gates": decision.gates,
            "overridden": decision.overridden,
        });
        Facets::from([self.own("kaizen_gate", "GateRunFacet", body)])
    }

    pub(super) fn drift_facet(&self, report: &DriftReport) -> Facets {
        let features: Vec<_> = report.features.iter().take(MOST_FEATURES).collect();
        let body = json!({
            "model": report.model,
            "reference": report.profile,
            "alarm": report.alarm,
            "alpha": report.alpha,
            "evidence": report.evidence,
            "looks": report.looks,
            "blockStart": report.block_start,
            "features": features,
        });
        Facets::from([self.own("kaizen_drift", "DriftRunFacet", body)])
    }

    /// Which alias moved, and why: an override with its reason.
    pub(super) fn alias_facet(&self, entry: &Entry) -> Facets {
        let Event::AliasMoved { name, alias, from, to, change } = &entry.event else {
            return Facets::new();
        };
        let (change, reason) = match change {
            AliasChange::Promotion => ("promotion", None),
            AliasChange::Rollback => ("rollback", None),
            AliasChange::Override { reason } => ("override", Some(reason)),
        };
        let body = json!({
            "name": name,
            "alias": alias,
            "from": from,
            "to": to,
            "change": change,
            "overridden": reason.is_some(),
            "reason": reason,
        });
        Facets::from([self.own("kaizen_alias", "AliasRunFacet", body)])
    }
}
