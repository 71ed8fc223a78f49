//! `kaizen fsck`.

use kaizen_core::{Error, Result};
use kaizen_store::{LocalStore, fsck};
use serde_json::json;

use crate::arguments::{Fsck, Place};
use crate::failed::Failed;
use crate::print::{Printer, Style, bytes, cell};

/// Reads every blob and names what is damaged, missing or strange. It changes nothing.
pub(crate) async fn run(place: &Place, asked: &Fsck, out: &mut Printer<'_>) -> Result<(), Failed> {
    place.check_store()?;
    let store = LocalStore::to_check(place.store.clone());
    let log = if asked.without_log { None } else { Some(place.log().await?) };
    let checked = fsck(&store, log.as_deref()).await?;
    let sound = checked.is_sound();
    if out.is_json() {
        let problems = checked.problems.iter().map(|problem| {
            json!({
                "file": problem.file,
                "fault": problem.fault.to_string(),
                "harm": problem.fault.is_harm(),
                "digest": problem.digest,
                "detail": problem.detail,
                "needed_by": problem.needed_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        out.json(&json!({
            "sound": sound,
            "blobs": checked.blobs.to_string(),
            "bytes": checked.bytes.to_string(),
            "manifests": checked.manifests.to_string(),
            "removed": checked.removed.to_string(),
            "problems": problems.collect::<Vec<_>>(),
        }))?;
    } else {
        for problem in &checked.problems {
            let harm = problem.fault.is_harm();
            out.line(&[cell(problem, if harm { Style::Bad } else { Style::Warn })])?;
        }
        let (blobs, size) = (checked.blobs, bytes(checked.bytes));
        let text = format!("{blobs} blobs, {size}, {} records", checked.manifests);
        let state = if sound { cell("sound", Style::Good) } else { cell("DAMAGED", Style::Bad) };
        out.line(&[cell(text, Style::Plain), state])?;
    }
    match sound {
        true => Ok(()),
        false => {
            let harm = checked.problems.iter().filter(|problem| problem.fault.is_harm()).count();
            let faults = if harm == 1 { "fault" } else { "faults" };
            let store = place.store.display();
            Err(Error::corrupt(format!("store {store}: {harm} {faults}")).into())
        }
    }
}
