//! On-demand features: what a service accepts, and what a function must keep to.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use kaizen_core::{DataType, Error, ErrorKind, Field, Result};
use kaizen_table::{FeatureService, FeatureView, Functions, OnDemand, arrow};

/// What a function gives.
type Outputs = fn() -> Vec<ArrayRef>;

fn number(name: &str) -> Field {
    Field::new(name, DataType::Float64)
}

fn on_demand(name: &str, inputs: Vec<Field>, outputs: Vec<Field>) -> OnDemand {
    OnDemand { name: name.to_owned(), version: 1, inputs, outputs }
}

fn service() -> FeatureService {
    let view = FeatureView::builder("v").source("s").key("k").column("a", DataType::Float64);
    FeatureService::new("s", 1, vec![number("r")], vec![view.build().unwrap()]).unwrap()
}

fn rows() -> RecordBatch {
    let a: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let r: ArrayRef = Arc::new(Float64Array::from(vec![10.0, 20.0]));
    RecordBatch::try_from_iter([("a", a), ("r", r)]).unwrap()
}

fn add(rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let column = |place: usize| rows.column(place).as_primitive::<Float64Type>();
    let sum = column(0).iter().zip(column(1)).map(|(a, b)| Some(a? + b?));
    Ok(vec![Arc::new(sum.collect::<Float64Array>())])
}

#[test]
fn a_function_takes_columns_before_it_and_those_of_functions_before_it() {
    let first = on_demand("add", vec![number("a"), number("r")], vec![number("sum")]);
    let second = on_demand("double", vec![number("sum")], vec![number("twice")]);
    let both = service().with_on_demand(vec![first.clone(), second.clone()]).unwrap();
    let names: Vec<String> = both.columns().into_iter().map(|field| field.name).collect();
    assert_eq!(names, ["r", "a", "sum", "twice"]);
    assert_eq!(both.on_demand(), [first.clone(), second.clone()]);
    let error = service().with_on_demand(vec![second, first]).unwrap_err().to_string();
    assert!(error.contains("function `double` takes `sum` (Float64)"), "{error}");
}

#[test]
fn a_function_that_does_not_fit_its_service_is_refused() {
    let cases = [
        (on_demand("f", vec![number("z")], vec![number("o")]), "takes `z` (Float64)"),
        (
            on_demand("f", vec![Field::new("a", DataType::Int64)], vec![number("o")]),
            "takes `a` (Int64)",
        ),
        (on_demand("f", vec![number("a")], vec![]), "function `f` gives nothing"),
        (on_demand("f", vec![number("a")], vec![number("a")]), "column `a` stands twice"),
        (on_demand("f", vec![number("a")], vec![number("r")]), "column `r` stands twice"),
        (
            on_demand("f", vec![number("a")], vec![number("o"), number("o")]),
            "column `o` stands twice",
        ),
    ];
    for (function, part) in cases {
        let error = service().with_on_demand(vec![function]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
}

#[test]
fn functions_are_part_of_the_services_digest_and_of_its_json() {
    let with = |version| {
        let function = on_demand("add", vec![number("a"), number("r")], vec![number("sum")]);
        service().with_on_demand(vec![OnDemand { version, ..function }]).unwrap()
    };
    let digests = [service(), with(1), with(2)].map(|service| service.digest().unwrap());
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    let json = serde_json::to_string(&with(2)).unwrap();
    assert_eq!(serde_json::from_str::<FeatureService>(&json).unwrap(), with(2));
    // The same checks as in code.
    let other = json.replace(
        r#""name":"r","data_type":"float64"}],"outputs""#,
        r#""name":"q","data_type":"float64"}],"outputs""#,
    );
    assert_ne!(other, json);
    assert!(serde_json::from_str::<FeatureService>(&other).is_err());
}

#[test]
fn a_function_gets_its_inputs_in_the_order_of_its_definition() {
    let functions = Functions::default().with("add", 1, add);
    let definition = on_demand("add", vec![number("r"), number("a")], vec![number("sum")]);
    let service = service().with_on_demand(vec![definition.clone()]).unwrap();
    functions.check(&service).unwrap();
    let found = functions.compute(&definition, &rows()).unwrap();
    let sums: Vec<_> = found[0].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(sums, [Some(11.0), None]);
    // No rows are rows as well.
    assert_eq!(functions.compute(&definition, &rows().slice(0, 0)).unwrap()[0].len(), 0);
}

#[test]
fn a_function_that_is_not_there_is_named_beside_those_that_are() {
    let functions = Functions::default().with("add", 1, add);
    let definition = on_demand("add", vec![number("a"), number("r")], vec![number("sum")]);
    let newer = OnDemand { version: 2, ..definition };
    let service = service().with_on_demand(vec![newer.clone()]).unwrap();
    for error in
        [functions.check(&service).unwrap_err(), functions.compute(&newer, &rows()).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "function `add` 2; there are: `add` 1");
    }
}

#[test]
fn a_function_that_gives_something_else_is_refused_by_name() {
    let definition = on_demand("f", vec![number("a")], vec![number("o")]);
    let cases: [(Outputs, &str); 4] = [
        (Vec::new, "function `f` 1: 0 columns, not 1"),
        (|| vec![Arc::new(Int64Array::from(vec![1, 2]))], "2 values of Int64, not 2 of Float64"),
        (|| vec![Arc::new(Float64Array::from(vec![1.0]))], "1 values of Float64, not 2"),
        (|| vec![Arc::new(StringArray::from(vec!["", ""]))], "output `o` is 2 values of Utf8"),
    ];
    for (outputs, part) in cases {
        let functions = Functions::default().with("f", 1, move |_| Ok(outputs()));
        let error = functions.compute(&definition, &rows()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
    let failing = Functions::default().with("f", 1, |_| Err(Error::invalid("a reason of its own")));
    let error = failing.compute(&definition, &rows()).unwrap_err();
    assert!(error.to_string().contains("a reason of its own"), "{error}");
}

#[test]
fn an_input_that_is_missing_or_of_another_type_is_named() {
    let functions = Functions::default().with("f", 1, |_| Ok(vec![]));
    let of = |input: Field| {
        let definition = on_demand("f", vec![input], vec![number("o")]);
        functions.compute(&definition, &rows()).unwrap_err().to_string()
    };
    assert!(of(number("z")).contains("column `z` is missing; there are a, r"));
    let wrong = of(Field::new("a", DataType::Int64));
    assert_eq!(wrong, "function `f`: input `a` holds Float64, not Int64");
}
