//! NVIDIA's client for this protocol, software that we did not write, asks our server.

use std::env;

use tokio::process::Command;

use crate::running::{Running, score};

/// Asks with `tritonclient.http`; prints the scores.
const SCRIPT: &str = r#"
import sys
import numpy as np
import tritonclient.http as http

client = http.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("late") and client.is_model_ready("late", "3")
assert not client.is_model_ready("late", "4") and not client.is_model_ready("early")
assert client.get_server_metadata()["name"] == "kaizen"
metadata = client.get_model_metadata("late")
assert metadata["versions"] == ["3"] and metadata["platform"] == "kaizen", metadata

columns = {
    "wind": np.array([0.1, 7.5, -2.0], dtype=np.float64),
    "hour": np.array([1, -2, 3], dtype=np.int64),
    "holiday": np.array([True, False, True]),
    "carrier": np.array(["XX", "YY", "ZZ"], dtype=np.object_),
}
datatypes = {one["name"]: one["datatype"] for one in metadata["inputs"]}
inputs = []
for name, values in columns.items():
    one = http.InferInput(name, [3, 1], datatypes[name])
    one.set_data_from_numpy(values.reshape(3, 1), binary_data=False)
    inputs.append(one)
# It asks for binary outputs unless told otherwise, and takes JSON.
for outputs in (None, [http.InferRequestedOutput("score")]):
    result = client.infer("late", inputs, outputs=outputs, request_id="triton", model_version="3")
    assert result.get_response()["id"] == "triton"
    scores = result.as_numpy("score")
    assert scores.dtype == np.float64 and scores.shape == (3,), scores
print(",".join(repr(float(score)) for score in scores))

try:
    client.infer("late", inputs[1:])
except Exception as error:
    assert "input `wind`: it is missing" in str(error), error
else:
    raise AssertionError("a missing input was not refused")
binary = http.InferInput("wind", [3, 1], "FP64")
binary.set_data_from_numpy(columns["wind"].reshape(3, 1))
try:
    client.infer("late", [binary] + inputs[1:])
except Exception as error:
    assert "binary tensors are not supported" in str(error), error
else:
    raise AssertionError("a binary tensor was not refused")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn tritonclient_gets_its_scores() {
    let python = env::var("KAIZEN_TRITON_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import tritonclient.http"]).output().await;
    if !has.is_ok_and(|output| output.status.success()) {
        let why = "has no tritonclient (set KAIZEN_TRITON_PYTHON to one that has)";
        kaizen_testkit::judge::absent(&format!("`{python}` {why}"));
        return;
    }
    let running = Running::of(&[("blue", 3, 0.5, 1)]).await;
    let address = running.server.local_addr().to_string();
    let output = Command::new(&python).args(["-c", SCRIPT, &address]).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let scores = String::from_utf8(output.stdout).unwrap();
    // An unknown carrier counts as the mean of the labels, one half.
    let sums = [0.1 + 1.0 + 1.0 + 0.5, 7.5 - 2.0 + 0.0 + 0.5, -2.0 + 3.0 + 1.0 + 0.5];
    let expected: Vec<_> = sums.iter().map(|sum| score(0.5, *sum)).collect();
    let found: Vec<f64> = scores.trim().split(',').map(|score| score.parse().unwrap()).collect();
    assert_eq!(found, expected);
}
