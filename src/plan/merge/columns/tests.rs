use arrow::array::StringArray;
use arrow::datatypes::Float64Type;

use super::*;

fn spec(join: Join) -> MergeSpec {
    MergeSpec {
        join,
        ..MergeSpec::new(Vec::new())
    }
}

fn field(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("x", data_type, false))
}

fn nullable(data_type: DataType, encoding: &str) -> FieldRef {
    let meta = FieldMeta {
        encoding: Some(encoding.to_owned()),
        ..FieldMeta::default()
    };
    Arc::new(meta.apply(Field::new("x", data_type, true)))
}

fn categories(names: &[&str], ordered: bool) -> FieldRef {
    let values: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    let id = CategoryRegistry::global().register(&values);
    Arc::new(categorical_field("x", &DataType::Utf8, &id, ordered))
}

/// The type and encoding of the merged column, and whether it is text for want of another.
fn merged(fields: &[Option<FieldRef>]) -> (DataType, String, bool) {
    let frames: Vec<Vec<FieldRef>> = fields
        .iter()
        .map(|field| field.iter().map(Arc::clone).collect())
        .collect();
    let merged = stack(&frames, &spec(Join::Outer), "obs", &|at| at.to_string()).unwrap();
    let column = &merged.columns[0];
    let encoding = FieldMeta::of(&column.field).encoding.unwrap();
    (
        column.field.data_type().clone(),
        encoding,
        !merged.conflicts.is_empty(),
    )
}

#[test]
fn numbers_are_promoted_and_whole_ones_become_floats_where_some_are_missing() {
    use DataType::{Boolean, Float32, Float64, Int8, Int64};
    let plain = |data_type| (data_type, "array".to_owned(), false);
    let of = |types: &[DataType]| {
        types
            .iter()
            .map(|t| Some(field(t.clone())))
            .collect::<Vec<_>>()
    };
    assert_eq!(merged(&of(&[Int8, Int64])), plain(Int64));
    assert_eq!(merged(&of(&[Int64, Float32])), plain(Float64));
    assert_eq!(merged(&of(&[Boolean, Int64])), plain(Int64));
    assert_eq!(merged(&[Some(field(Int8)), None]), plain(Float64));
    assert_eq!(merged(&[None, Some(field(Float32))]), plain(Float32));
    let boolean = (Boolean, "nullable-boolean".to_owned(), false);
    assert_eq!(merged(&[None, Some(field(Boolean))]), boolean);
    let integer = (Int64, "nullable-integer".to_owned(), false);
    let fields = [
        Some(nullable(Int8, "nullable-integer")),
        Some(field(Int64)),
        None,
    ];
    assert_eq!(merged(&fields), integer);
}

#[test]
fn real_numbers_may_be_missing_where_all_objects_have_them() {
    let of = |data_type: DataType| {
        let frames = [vec![field(data_type.clone())], vec![field(data_type)]];
        let merged = stack(&frames, &spec(Join::Inner), "obs", &|at| at.to_string()).unwrap();
        merged.columns[0].field.is_nullable()
    };
    assert!(of(DataType::Float32) && of(DataType::Float64));
    assert!(!of(DataType::Int64) && !of(DataType::Utf8));
}

#[test]
fn what_has_no_type_in_common_is_text() {
    let fields = [Some(field(DataType::Float64)), Some(field(DataType::Utf8))];
    assert_eq!(
        merged(&fields),
        (DataType::Utf8, "string-array".to_owned(), true)
    );
    let fields = [
        Some(categories(&["a", "b"], true)),
        Some(categories(&["b", "a"], true)),
    ];
    let text = (DataType::Utf8, "nullable-string-array".to_owned(), true);
    assert_eq!(merged(&fields), text);
    let fields = [
        Some(categories(&["a"], false)),
        Some(field(DataType::Utf8)),
        None,
    ];
    assert!(!merged(&fields).2);
}

#[test]
fn an_inner_join_says_what_it_drops() {
    let frames = [vec![field(DataType::Int8)], Vec::new()];
    let merged = stack(&frames, &spec(Join::Inner), "obs", &|at| at.to_string()).unwrap();
    assert!(merged.columns.is_empty());
    assert_eq!(merged.dropped, [("x".to_owned(), vec![1])]);
}

#[test]
fn values_are_cast() {
    let numbers: ArrayRef = Arc::new(arrow::array::Int8Array::from(vec![Some(1), None]));
    let wide = ColumnCast::Number(DataType::Float64)
        .apply(&numbers)
        .unwrap();
    assert_eq!(wide.as_primitive::<Float64Type>().value(0), 1.);
    assert!(wide.is_null(1));
    let text = ColumnCast::Text.apply(&numbers).unwrap();
    assert_eq!(text.as_string::<i32>().value(0), "1");
    assert!(text.is_null(1));
    let old: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
    let new: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let column: ArrayRef = Arc::new(DictionaryArray::new(
        Int32Array::from(vec![Some(0), None, Some(1)]),
        old,
    ));
    let codes = ColumnCast::Codes {
        codes: Arc::new([1, 0]),
        values: new,
    };
    let cast = codes.apply(&column).unwrap();
    let keys = cast.as_dictionary::<Int32Type>().keys();
    assert_eq!(keys, &Int32Array::from(vec![Some(1), None, Some(0)]));
}

#[test]
fn dropped_columns_are_neither_refused_nor_spoken_of() {
    let strange = DataType::List(Arc::new(Field::new("item", DataType::Int8, true)));
    let frames = [vec![field(strange)], vec![field(DataType::Utf8)], vec![]];
    let label = |at: usize| at.to_string();
    assert!(stack(&frames, &spec(Join::Outer), "obs", &label).is_err());
    let spec = MergeSpec {
        drop: vec!["obs/x".into()],
        ..spec(Join::Inner)
    };
    let merged = stack(&frames, &spec, "obs", &label).unwrap();
    assert!(merged.columns.is_empty() && merged.dropped.is_empty());
}
